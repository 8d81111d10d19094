"""What the documentation shows is what happens: each SQL statement gives the rows printed below it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from tests.servers import DATABASES
from tests.worker.archive_example import fill
from worker import cli, deliveries, reader, show
from worker.store import Store

DOCS = Path(cli.__file__).parent / "docs"
COOKBOOK = DOCS / "analysts.md"
INGESTION = DOCS / "ingestion.md"
EVERYWHERE, SQLITE, POSTGRESQL = "sql", "sql sqlite", "sql postgresql"
_BLOCK = re.compile(r"```(sql[ a-z]*)\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
_OPTION = re.compile(r"(?<!\w)--([a-z][a-z-]+)")


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


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_command_and_option_that_is_named_exists(page: str):
    root = typer.main.get_command(cli.mounted())
    text = (DOCS / page).read_text(encoding="utf-8").replace("\\\n", " ")
    named = re.findall(r"videomind [^\n`|]+", text)
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
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"videomind_([a-z_]+?)(?:_total)?[`{]", text)
        named += re.findall(r'code="([a-z_]+)"', text)
        assert all(f'{name}"' in code for name in named), named


def test_the_hit_that_is_shown_is_as_the_contract_says():
    (shown,) = re.findall(r"```json\n(\{\n.*?)```", INGESTION.read_text(encoding="utf-8"), re.DOTALL)
    schema = json.loads((DOCS.parent / "contract" / "hit.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads(shown))


def test_the_receiver_that_is_shown_believes_what_is_sent_and_nothing_else():
    blocks = re.findall(r"```python\n(.*?)```", INGESTION.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "is_genuine" in block)
    names: dict[str, Any] = {}
    exec(code, names)
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
