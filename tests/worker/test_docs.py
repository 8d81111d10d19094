"""What the documentation shows is what happens: statements give the rows printed below them, commands end
well, and messages are understood."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from celery import Celery
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from tests.servers import DATABASES
from tests.worker.archive_example import fill
from tests.worker.conftest import FACTS, LEASE, FakeMind
from vm.result import Result
from worker import cli, deliveries, reader, service, show
from worker.jobs import Accepted
from worker.settings import Settings, using
from worker.sources.posting import encoded
from worker.store import Checked, Store

DOCS = Path(cli.__file__).parent / "docs"
COOKBOOK = DOCS / "analysts.md"
INGESTION = DOCS / "ingestion.md"
PAGES = sorted(DOCS.glob("*.md"))
EVERYWHERE, SQLITE, POSTGRESQL = "sql", "sql sqlite", "sql postgresql"
_BLOCK = re.compile(r"```(sql[ a-z]*)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
_OPTION = re.compile(r"(?<!\w)--([a-z][a-z-]+)")
# What is not run here: it goes on for ever,
_ENDLESS = ("worker", "beat", "watch", "hits --follow", "status --watch")
# needs what the archive has not, which is videos to look at, a run that is still open, and PostgreSQL,
_ELSEWHERE = ("standing backtest", "reindex diff 1 --contact", "db grant")
_OPEN_RUN = ("reindex start", "reindex pause", "reindex resume", "reindex cancel")
# or is only the name of a command.
_UNFINISHED = ("submit\n", "sql\n", 'sql "SELECT …', "retry --analysis ID")
_NOT_RUN = (*_ENDLESS, *_ELSEWHERE, *_OPEN_RUN, *_UNFINISHED)


@dataclass(frozen=True)
class Example:
    kind: str
    statement: str
    output: str | None


def _examples() -> Iterator[Example]:
    for kind, statement, output in _BLOCK.findall(COOKBOOK.read_text(encoding="utf-8")):
        yield Example(kind, statement.strip().rstrip(";"), output or None)


EXAMPLES = list(_examples())


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def archive(url: str) -> str:
    with Store(url) as store:
        fill(store)
    return url


def _lines(url: str, statement: str) -> str:
    found = reader.read(url, statement)
    return "".join(f"{line}\n" for line in show.table_lines(found))


def _plain(value: Any) -> str:
    """Both databases' rows in the same words: SQLite knows no times, and no truth."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S.%f}"
    return str(int(value)) if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("database", ["sqlite"])
def test_the_cookbook_prints_what_sqlite_gives(archive: str):
    shown = [
        (example, _lines(archive, example.statement)) for example in EXAMPLES if example.kind != POSTGRESQL
    ]
    if os.environ.get("VIDEOMIND_WRITE_DOCS"):
        _rewrite(shown)
    for example, output in shown:
        assert output == example.output, example.statement


@pytest.mark.parametrize("database", ["postgresql"])
def test_postgresql_gives_as_many_rows(archive: str):
    printed = {example.statement: example.output for example in EXAMPLES}
    for before, example in zip([None, *EXAMPLES], EXAMPLES, strict=False):
        if example.kind == SQLITE:
            continue
        rows = reader.read(archive, example.statement).values
        like = printed[example.statement] or (before and before.output) or ""
        assert len(rows) == len(like.splitlines()) - 2, example.statement


def test_there_are_fifteen_recipes_and_each_runs_on_both_databases(database: str):
    here = {SQLITE, EVERYWHERE} if database == "sqlite" else {POSTGRESQL, EVERYWHERE}
    assert sum(example.kind in here for example in EXAMPLES) >= 15


def _named(page: Path) -> list[str]:
    """The commands on a page."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"videomind [^\n`|]+", text)


def _to_run() -> list[str]:
    named = [line.removeprefix("videomind ").strip() for page in PAGES for line in _named(page)]
    return sorted({line for line in named if not f"{line}\n".startswith(_NOT_RUN)})


@pytest.fixture(scope="module")
def filled(migrated: Path) -> Iterator[Path]:
    """The archive as an SQLite file, to be copied."""
    with TemporaryDirectory(dir=migrated.parent) as folder:
        file = copyfile(migrated, Path(folder) / "archive.db")
        with Store(f"sqlite:///{file}") as store:
            fill(store)
        yield file


@pytest.fixture
def _in_a_copy(
    filled: Path, tmp_path: Path, mind: FakeMind, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Commands find an archive of the test's own."""
    url = f"sqlite:///{copyfile(filled, tmp_path / 'archive.db')}"
    monkeypatch.chdir(tmp_path)
    with using(Settings(database_url=url, checkpoint="fake", webhook_secret=SecretStr("ours"))):
        yield


@pytest.mark.usefixtures("_in_a_copy")
@pytest.mark.parametrize("line", _to_run())
def test_the_command_that_is_shown_ends_well(videomind: Callable[..., tuple[int, str, str]], line: str):
    code, _, err = videomind(*shlex.split(line, comments=True))
    assert code == 0, err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_is_named_exists(page: Path):
    root = cli.mounted()
    named = _named(page)
    assert named
    for line in named:
        command, words = root, line.split()[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not root, line
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        assert {f"--{name}" for name in _OPTION.findall(line.split("#")[0])} <= known | {"--help"}, line


def test_every_metric_and_error_code_that_is_named_exists():
    sources = [path.read_text(encoding="utf-8") for path in DOCS.parent.parent.glob("*/*.py")]
    code = "\n".join(sources)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"videomind_([a-z_]+?)(?:_total)?[`{]", text)
        named += re.findall(r'code="([a-z_]+)"', text)
        assert all(f'{name}"' in code for name in named), named


def _ingestion(language: str, part: str) -> str:
    """The only block in this language, on the page for ingestion teams, that has this part."""
    text = INGESTION.read_text(encoding="utf-8")
    (block,) = (found for found in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if part in found)
    return block


@dataclass(frozen=True)
class Sent:
    """What the producer that is shown has sent, what became of it, and what the producer was told."""

    task: str
    arguments: dict[str, Any]
    accepted: Accepted
    told: Any


@pytest.fixture
def sent(store: Store, redis_url: str) -> Sent:
    """Runs the producer, and answers it as a worker does."""
    here = redis_url.removesuffix("/0")
    code = _ingestion("python", "send_task").replace("redis://broker", here)
    names: dict[str, Any] = {}
    worker = Celery(broker=f"{here}/0", backend=f"{here}/1", set_as_current=False)
    with ThreadPoolExecutor(1) as elsewhere, worker:
        producer = elsewhere.submit(exec, code, names)
        with worker.connection_for_read() as connection, connection.SimpleQueue("ingest") as queue:
            message = queue.get(timeout=20)
            message.ack()
        _, arguments, _ = message.payload
        accepted = service.submit(store, message.headers["id"], arguments)
        assert accepted is not None, "the contract forbids it"
        worker.backend.store_result(message.headers["id"], asdict(accepted), "SUCCESS")
        producer.result(timeout=60)
    names["client"].close()
    return Sent(message.headers["task"], arguments, accepted, names["ids"])


def test_the_message_that_is_shown_is_understood_and_its_ids_come_back(sent: Sent):
    assert sent.task == "videomind.submit"
    (shown,) = re.findall(r"sent\.get\(.*\)  # (.*)", _ingestion("python", "send_task"))
    assert sent.told == json.loads(shown)
    assert sent.told == {
        "submission_id": sent.accepted.submission_id,
        "request_ids": list(sent.accepted.request_ids),
    }


def test_the_callback_that_is_shown_is_what_comes_of_the_message_that_is_shown(
    store: Store, sent: Sent, found: Callable[..., Result]
):
    intake = store.submissions.claim_one(sent.accepted.submission_id, "registrar", LEASE)
    assert intake is not None
    checked = Checked("0" * 64, 1000, FACTS, intake.submission.recorded_at, "argument")
    ids = store.intakes.register(intake, checked, FakeMind.fingerprint)
    for claim in store.analyses.claim_these(ids, "worker", FakeMind.fingerprint, LEASE):
        store.analyses.finish(claim, found(claim.request.question))
    call = store.callbacks.take_due(timedelta(minutes=1))
    assert call is not None
    assert call.url == sent.arguments["callback_url"]
    shown, told = json.loads(_ingestion("json", '"analyses"')), json.loads(encoded(call.body))
    for analysis in (*shown["analyses"], *told["analyses"]):
        assert isinstance(analysis.pop("analysis_id"), int)  # which one nobody knows beforehand
    assert shown == told


def test_the_hit_that_is_shown_is_as_the_contract_says():
    shown = _ingestion("json", '"event_id"')
    schema = json.loads((DOCS.parent / "contract" / "hit.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads(shown))


def test_the_receiver_that_is_shown_believes_what_is_sent_and_nothing_else():
    names: dict[str, Any] = {}
    exec(_ingestion("python", "is_genuine"), names)
    now, body = str(int(time.time())), b'{"version": 1}'

    def headers(sent: str = now, secret: str = "ours") -> dict[str, str]:
        signed = deliveries.signature(SecretStr(secret), sent, body)
        return {
            "X-VideoMind-Event": "e1",
            "X-VideoMind-Timestamp": sent,
            "X-VideoMind-Signature": signed,
        }

    is_genuine = names["is_genuine"]
    assert is_genuine(b"ours", headers(), body, set())
    assert not is_genuine(b"ours", headers(), body, {"e1"})
    assert not is_genuine(b"ours", headers(), body + b" ", set())
    assert not is_genuine(b"ours", headers(secret="theirs"), body, set())
    assert not is_genuine(b"ours", headers(str(int(now) - 3600)), body, set())
    assert not is_genuine(b"ours", {**headers(), "X-VideoMind-Timestamp": str(int(now) + 1)}, body, set())


def _rewrite(shown: list[tuple[Example, str]]) -> None:
    """Prints into the page what the statements give now."""
    text = COOKBOOK.read_text(encoding="utf-8")
    for example, output in shown:
        block = f"```{example.kind}\n{example.statement};\n```\n"
        after = text.split(block, 1)[1] if block in text else None
        if after is None:
            continue
        old = re.match(r"\n```text\n.*?```\n", after, re.DOTALL)
        text = text.replace(block + (old.group() if old else ""), f"{block}\n```text\n{output}```\n", 1)
    COOKBOOK.write_text(text, encoding="utf-8")
