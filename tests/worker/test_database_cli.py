import csv
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests import commands
from tests.servers import DATABASES
from worker import options, schema
from worker.settings import Settings

PATIENCE = 120.0
"""Seconds after which a process that should have ended counts as hung."""
RECORDER = """#!/bin/sh
printf '%s\\n' "$0" "$@" >"$RECORD"
env | grep ^PG >>"$RECORD"
cat >/dev/null
"""


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the command as a process of its own, with clients that write down how they were called."""
    for name in ("psql", "sqlite3"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(RECORDER)
        program.chmod(0o755)

    def run(*arguments: str) -> list[str]:
        record = tmp_path / "record"
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECORD": str(record)}
        process = commands.start(*arguments, environment=environment).ended(PATIENCE)
        assert (process.returncode, process.stderr) == (0, "")
        return record.read_text().splitlines()

    return run


def test_db_check_tells_the_version(videomind: Callable, url: str):
    found = schema.check(url)
    assert videomind("db", "check", "--database", url) == (0, f"tables are of version {found}\n", "")


def test_db_check_refuses_a_database_without_tables(videomind: Callable, empty: str):
    code, out, err = videomind("db", "check", "--database", empty)
    assert (code, out) == (3, "")
    assert "run `videomind db upgrade`" in err


def test_db_upgrade_sets_up_the_tables(videomind: Callable, empty: str):
    code, out, _ = videomind("db", "upgrade", "--database", empty)
    assert (code, out) == (0, f"tables are of version {schema.check(empty)}\n")


def test_the_database_may_be_named_by_the_environment(
    videomind: Callable, url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(options, "current", lambda: Settings(database_url=url))
    assert videomind("db", "check")[0] == 0


def test_sql_shows_rows_as_text_as_json_and_as_csv(videomind: Callable, url: str, submitted):
    submitted('Où, "là"?')
    statement = "SELECT id, question, error_code FROM analyses"

    def shown(*form: str) -> str:
        code, out, _ = videomind("sql", statement, "--database", url, *form)
        assert code == 0
        return out

    assert shown() == 'id  question   error_code\n--  ---------  ----------\n1   Où, "là"?\n'
    assert json.loads(shown("--json")) == {"id": 1, "question": 'Où, "là"?', "error_code": None}
    assert list(csv.reader(shown("--csv").splitlines())) == [
        ["id", "question", "error_code"],
        ["1", 'Où, "là"?', ""],
    ]
    assert videomind("sql", statement, "--database", url, "--csv", "--json")[0] == 2


def test_instants_and_json_are_written_for_programs(videomind: Callable, url: str, submitted):
    submitted(options=("a", "b"))
    statement = "SELECT options, submitted_at FROM analyses"
    found = json.loads(videomind("sql", statement, "--database", url, "--json")[1])
    began = datetime.fromisoformat(found["submitted_at"])
    now = datetime.now(UTC)
    assert abs((began if began.tzinfo else began.replace(tzinfo=UTC)) - now).total_seconds() < 3600
    row = next(csv.DictReader(videomind("sql", statement, "--database", url, "--csv")[1].splitlines()))
    assert json.loads(row["options"]) == ["a", "b"]


def test_sql_refuses_to_change_anything(videomind: Callable, url: str):
    code, out, err = videomind("sql", "DELETE FROM analyses", "--database", url)
    assert (code, out) == (3, "")
    assert "only a single SELECT is run" in err


@pytest.mark.parametrize("database", ["postgresql"])
def test_without_a_statement_psql_opens_for_reading_and_no_command_line_holds_the_password(
    recorded: Callable, url: str, tmp_path: Path
):
    for password, given in (("hu sh", url.replace("postgres@", "postgres:hu%20sh@")), (None, url)):
        found = recorded("sql", "--database", f"{given}?connect_timeout=7")
        program, address, *environment = found
        assert program == f"{tmp_path}/bin/psql"
        assert "hu" not in address
        assert {"user=postgres", "host=127.0.0.1", "connect_timeout=7"} <= set(address.split())
        assert "PGOPTIONS=-c default_transaction_read_only=on" in environment
        assert (f"PGPASSWORD={password}" in environment) == bool(password)


@pytest.mark.parametrize("database", ["postgresql"])
def test_the_address_that_psql_gets_is_one_that_libpq_understands(url: str):
    import psycopg

    from worker.client import command

    with psycopg.connect(command(url)[0][1]) as connection:
        assert connection.info.dbname == url.rpartition("/")[2]


@pytest.mark.parametrize("database", ["sqlite"])
def test_without_a_statement_sqlite3_opens_the_file_for_reading(recorded: Callable, url: str, tmp_path: Path):
    assert recorded("sql", "--database", url) == [
        f"{tmp_path}/bin/sqlite3",
        "-readonly",
        url.removeprefix("sqlite:///"),
    ]


def test_a_client_that_is_not_installed_is_told_of(
    videomind: Callable, url: str, database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    code, out, err = videomind("sql", "--database", url)
    assert (code, out) == (3, "")
    name, package = {"sqlite": ("sqlite3", "sqlite3"), "postgresql": ("psql", "postgresql-client")}[database]
    assert err.startswith(f"videomind: {name} is not installed: install {package}, or give a statement")


def test_a_client_makes_no_new_database(videomind: Callable, tmp_path: Path):
    code, _, err = videomind("sql", "--database", f"sqlite:///{tmp_path}/none.db")
    assert code == 3
    assert "none.db" in err
    assert list(tmp_path.iterdir()) == []
