"""How a database is opened, and what its refusals are called. Knows no table."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    PoolProxiedConnection,
    create_engine,
    event,
    inspect,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, DisconnectionError, IntegrityError, InterfaceError

from worker.errors import DatabaseUnusable

BUSY_TIMEOUT_MS = 30_000
"""How long SQLite waits for another writer; every transaction here takes milliseconds."""

IDLE_TIMEOUT_MS = 30_000
"""How long PostgreSQL lets a transaction wait for its next statement, before it ends the connection."""

IDLE_SECONDS = 0.1
"""A connection that nobody has used for so long is looked at before it is used again."""


_AUTOCOMMIT: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}


def open_engine(url: str, autocommit: bool = False) -> Engine:
    """An engine for an SQLAlchemy URL; nothing is connected yet.

    Args:
        autocommit: on PostgreSQL each statement is a transaction by itself, with nothing to begin and to
            commit: it is asked once instead of three times. See `transactions`.

    Raises:
        DatabaseUnusable: not such a URL, no driver for it, or no folder for its file.
    """
    try:
        parsed = make_url(url)
        how = _AUTOCOMMIT if autocommit and parsed.get_backend_name() == "postgresql" else {}
        serializer = partial(json.dumps, ensure_ascii=False, allow_nan=False)
        engine = create_engine(parsed, json_serializer=serializer, **how)
    except (ArgumentError, ImportError, ValueError) as error:
        advice = "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        raise DatabaseUnusable(f"not a usable database URL ({error}): {advice}") from error
    if engine.dialect.name == "sqlite":
        _make_folder(engine.url.database)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _set_up_postgresql)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_look_if_it_lives, engine.dialect))
    return engine


def transactions(engine: Engine) -> Engine:
    """The same connections, with as many statements in a transaction as one likes. To have this the other way
    round would take longer: most of what is done in a hurry is a single statement."""
    is_postgresql = engine.dialect.name == "postgresql"
    return engine.execution_options(isolation_level="READ COMMITTED") if is_postgresql else engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read, for however long: they keep nobody from writing."""
    return engine.execution_options(reading=True)


def sqlite_file(url: str) -> Path:
    """The file of an SQLite database.

    Raises:
        DatabaseUnusable: not an SQLite URL, or one that names no file.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise DatabaseUnusable(f"{shown(parsed)} is no SQLite file: use its own client, such as psql")
    return Path(parsed.database)


def postgresql_address(url: str) -> dict[str, Any] | None:
    """What libpq has to be told to connect, by its own names; None for another kind of database.

    Raises:
        DatabaseUnusable: no database's URL.
    """
    parsed = _parsed(url)
    if parsed.get_backend_name() != "postgresql":
        return None
    return dict(parsed.get_dialect()().create_connect_args(parsed)[1])


def conninfo(address: dict[str, Any]) -> str:
    """The same in one line. Raises DatabaseUnusable: libpq knows no such names."""
    try:
        return make_conninfo(**address)
    except psycopg.ProgrammingError as error:
        raise DatabaseUnusable(f"not an address of PostgreSQL: {error}") from error


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """The database's refusals as DatabaseUnusable; a broken constraint is our own fault and stays."""
    try:
        yield
    except IntegrityError:
        raise
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseUnusable(
            f"{shown(engine.url)}: {str(error.orig).rstrip('.?')}. Is it there, running and writable?"
        ) from error


def is_new(engine: Engine) -> bool:
    """An SQLite database without any table: nobody has used it yet, so it may be set up unasked."""
    return engine.dialect.name == "sqlite" and not inspect(engine).get_table_names()


def shown(url: URL) -> str:
    """The database's name for messages, its password masked."""
    named = url.difference_update_query(["password"])
    return f"database {named.render_as_string(hide_password=True)}"


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise DatabaseUnusable(f"not a database URL: {error}") from error


def _make_folder(file: str | None) -> None:
    try:
        Path(file or "").parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable(f"cannot make the folder of database {file}: {error.strerror}") from error


def _set_up_postgresql(connection: psycopg.Connection, record: object) -> None:
    """A process that is stopped in the middle of a transaction would keep others from its rows for ever."""
    connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}".encode())
    connection.commit()


def _note_use(connection: object, record: PoolProxiedConnection) -> None:
    record.info["used"] = time.monotonic()


def _look_if_it_lives(
    dialect: Dialect, connection: Any, record: PoolProxiedConnection, proxy: object
) -> None:
    """A server that was started anew has closed its connections. To ask each time, as the engine can do by
    itself, would take as long as a statement."""
    if time.monotonic() - record.info.get("used", math.inf) < IDLE_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except psycopg.Error as error:
        raise DisconnectionError(str(error)) from error  # has the pool open another one


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    """Several processes share the file: writers wait for each other, and foreign keys hold."""
    connection.isolation_level = None
    connection.create_function("clock", 1, _clock)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    _switch_to_wal(connection)


def _clock(later: float | None) -> str | None:
    """See `worker.columns.Clock`; an SQLite file is on one machine anyway."""
    if later is None:
        return None
    moment = datetime.now(UTC) + timedelta(seconds=later)
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")


def _begin_sqlite(connection: Connection) -> None:
    """One that reads first and writes later fails at once when another one wrote in between, whatever the
    timeout; one that starts as a writer waits for its turn."""
    only_reads = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


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
