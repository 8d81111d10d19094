"""One database, and transactions on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Executable, Select, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.sql.dml import ReturningInsert

from worker.columns import Base, Clock, Columns
from worker.database import open_engine, reading, transactions, translated_errors

Row = TypeVar("Row", bound=Base)
Key = TypeVar("Key")
_BATCH = 10_000


class Sessions:
    """Makes transactions: everything done in one is there afterwards, or nothing of it.

    Raises:
        DatabaseUnusable: the database stopped answering.
    """

    def __init__(self, url: str) -> None:
        self._single = open_engine(url, autocommit=True)
        self.engine = transactions(self._single)
        self.is_postgresql = self.engine.dialect.name == "postgresql"

    def execute(self, statement: Executable, given: Mapping[str, object]) -> Sequence[Columns]:
        """What a single statement gives, which is a transaction by itself."""
        with translated_errors(self.engine), self._single.begin() as connection:
            return connection.execute(statement, given).all()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A transaction without rows that are objects, which cost more than most statements."""
        with translated_errors(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Session]:
        with translated_errors(self.engine), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads, and may take long: nobody waits for it."""
        engine = reading(self.engine)
        with translated_errors(engine), Session(engine) as session, session.begin():
            yield session


def dialect_of(bound: Session | Connection) -> str:
    """`postgresql` or `sqlite`."""
    return (bound.get_bind() if isinstance(bound, Session) else bound).dialect.name


def in_batches(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """As many at a time as one statement may name; no database takes them without limit."""
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]


def parameters(names: Iterable[str]) -> dict[str, Any]:
    """The columns of a statement that is built once: each as a parameter with `new_` before its name."""
    return {name: bindparam(f"new_{name}") for name in names}


def new(columns: Mapping[str, object]) -> dict[str, object]:
    """What such a statement is given."""
    return {f"new_{name}": value for name, value in columns.items()}


def together(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | Sequence[dict[str, Any]]:
    """What a statement is given for these rows: for a single one the driver has a quicker way."""
    return rows[0] if len(rows) == 1 else rows


@cache
def adding(table: type[Base], dialect: str) -> ReturningInsert[Any]:
    """A statement that adds a row, its `added_at` or `submitted_at` now, and gives its id; nothing where
    there is such a one, perhaps since another process has added it."""
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    into = cast(Table, table.__table__)
    (began,) = {"added_at", "submitted_at"} & set(into.columns.keys())
    return insert(into).values({began: Clock()}).on_conflict_do_nothing().returning(into.columns["id"])


def attached(session: Session, row: Row) -> Row:
    """A row that a statement has added: what it has need not be read again."""
    make_transient_to_detached(row)
    session.add(row)
    return row


def found_or_added(session: Session, query: Select[Row], row: Row) -> Row:
    """What the query finds, else the new row. Another process may add the same one in between."""
    if (known := session.scalar(query)) is not None:
        return known
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(query).one()
    return row
