"""One database, and transactions on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Engine, Select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.columns import Base
from worker.database import reading, translated_errors

Row = TypeVar("Row", bound=Base)
Key = TypeVar("Key")
_BATCH = 10_000


class Sessions:
    """Makes transactions: everything done in one is there afterwards, or nothing of it.

    Raises:
        DatabaseUnusable: the database stopped answering.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

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


def in_batches(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    """As many at a time as one statement may name; no database takes them without limit."""
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]


def added(session: Session, table: type[Row], **columns: Any) -> Row | None:
    """A new row; None where there is such a one, perhaps since another process has added it."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    return session.scalar(insert(table).values(**columns).on_conflict_do_nothing().returning(table))


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
