"""Runs somebody's SQL on a database and lets it read, nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.columns import Secret
from worker.database import open_engine, postgresql_address, sqlite_file, translated_errors
from worker.errors import DatabaseUnusable, StatementRefused

# Opening the file read-only is not enough: ATTACH would still create files beside it.
ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
STEPS_BETWEEN_LOOKS = 100_000
"""Virtual machine steps, a few milliseconds of work, between two looks at the clock."""


@dataclass(frozen=True)
class Rows:
    """A statement's result: column names, and rows of as many values."""

    names: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]


def read(url: str, statement: str, seconds: float = 30.0) -> Rows:
    """What one SELECT gives.

    Args:
        url: of an SQLite or PostgreSQL database.
        statement: one SQL statement; anything but a plain read is refused before it runs.
        seconds: how long it may run.

    Raises:
        DatabaseUnusable: the database cannot be opened.
        StatementRefused: the statement is wrong, would change something, or takes too long.
    """
    if postgresql_address(url) is not None:
        return _read_postgresql(url, statement, seconds)
    return _read_sqlite(sqlite_file(url), statement, seconds)


def _read_sqlite(file: Path, statement: str, seconds: float) -> Rows:
    with _read_only(file) as connection:
        deadline = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
        connection.set_authorizer(_authorize)
        try:
            cursor = connection.execute(statement)
            names = tuple(column[0] for column in cursor.description or ())
            return Rows(names, cursor.fetchall())
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _refusal(error, seconds) from error


def _read_postgresql(url: str, statement: str, seconds: float) -> Rows:
    """A cursor on the server is only made for one single SELECT, whatever it is called."""
    engine = open_engine(url)
    try:
        with translated_errors(engine), engine.connect() as connection:
            connection.execution_options(postgresql_readonly=True)
            timeout = (f"{max(1, round(seconds * 1000))}",)
            connection.exec_driver_sql("SELECT set_config('statement_timeout', %s, true)", timeout)
            plain = connection.connection.driver_connection
            assert plain is not None
            try:
                with plain.cursor("reading") as cursor:
                    cursor.execute(statement)
                    names = tuple(column.name for column in cursor.description)
                    return Rows(names, cursor.fetchall())
            except (plain.Error, ValueError) as error:
                raise _refusal(error, seconds) from error
    finally:
        engine.dispose()


def _refusal(error: Exception, seconds: float) -> StatementRefused:
    return StatementRefused(f"{error} (only a single SELECT is run, for at most {seconds:g} s)")


@contextmanager
def _read_only(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
        connection.execute("SELECT 1 FROM sqlite_schema")
    except sqlite3.Error as error:
        raise DatabaseUnusable(
            f"cannot read database {file}: {error}. Has anything been stored yet?"
        ) from error
    with closing(connection):
        yield connection


def _authorize(action: int, subject: str | None, *_: str | None) -> int:
    # What the full-text search asks for to open its table. A statement gets nothing by it: SQLite lets nobody
    # change sqlite_master, and a pragma that only tells the version of the file tells no secret.
    opens_search = (action, subject) in (
        (sqlite3.SQLITE_UPDATE, "sqlite_master"),
        (sqlite3.SQLITE_PRAGMA, "data_version"),
    )
    # As in PostgreSQL, where analysts have no right to it.
    if action == sqlite3.SQLITE_READ and (subject or "").lower() == Secret.__tablename__:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in ALLOWED or opens_search else sqlite3.SQLITE_DENY
