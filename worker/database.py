"""How a database is opened, and what its refusals are called. Knows no table."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, InterfaceError

from worker.errors import DatabaseUnusable

BUSY_TIMEOUT_MS = 30_000
"""How long SQLite waits for another writer; every transaction here takes milliseconds."""


def open_engine(url: str) -> Engine:
    """An engine for an SQLAlchemy URL; nothing is connected yet.

    Raises:
        DatabaseUnusable: not such a URL, no driver for it, or no folder for its file.
    """
    try:
        engine = create_engine(
            url, pool_pre_ping=True, json_serializer=partial(json.dumps, ensure_ascii=False, allow_nan=False)
        )
    except (ArgumentError, ImportError, ValueError) as error:
        advice = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        raise DatabaseUnusable(f"not a usable database URL ({error}): {advice}") from error
    if engine.dialect.name == "sqlite":
        _make_folder(engine.url.database)
        event.listen(engine, "connect", _set_up_sqlite)
        # A transaction that reads first and writes later fails at once when another one wrote in
        # between, whatever the timeout; one that starts as a writer waits for its turn.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def sqlite_file(url: str) -> Path:
    """The file of an SQLite database.

    Raises:
        DatabaseUnusable: not an SQLite URL, or one that names no file.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise DatabaseUnusable(f"not a database URL: {error}") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise DatabaseUnusable(f"{shown(parsed)} is no SQLite file: use its own client, such as psql")
    return Path(parsed.database)


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """The database's refusals as DatabaseUnusable; a broken constraint is our own fault and stays."""
    try:
        yield
    except IntegrityError:
        raise
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseUnusable(
            f"{shown(engine.url)}: {error.orig}. Is it there, running and writable?"
        ) from error


def is_new(engine: Engine) -> bool:
    """An SQLite database without any table: nobody has used it yet, so it may be set up unasked."""
    return engine.dialect.name == "sqlite" and not inspect(engine).get_table_names()


def shown(url: URL) -> str:
    """The database's name for messages, its password masked."""
    return f"database {url.render_as_string(hide_password=True)}"


def _make_folder(file: str | None) -> None:
    try:
        Path(file or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable(f"cannot make the folder of database {file}: {error.strerror}") from error


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Several processes share the file: writers wait for each other, and foreign keys hold."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    _switch_to_wal(connection)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for its turn with this one when several processes open a new file together."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
