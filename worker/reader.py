"""Runs somebody's SQL on an SQLite database and lets it read, nothing else."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read(file: Path, statement: str, seconds: float = 30.0) -> Rows:
    """What one SELECT gives.

    Args:
        file: the SQLite database.
        statement: one SQL statement; anything but a plain read is refused before it runs.
        seconds: how long it may run.

    Raises:
        DatabaseUnusable: the file cannot be opened.
        StatementRefused: the statement is wrong, would change something, or takes too long.
    """
    with _read_only(file) as connection:
        deadline = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
        connection.set_authorizer(_authorize)
        try:
            cursor = connection.execute(statement)
            names = tuple(column[0] for column in cursor.description or ())
            return Rows(names, cursor.fetchall())
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise StatementRefused(
                f"{error} (only a single SELECT is run, for at most {seconds:g} s)"
            ) from error


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


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY
