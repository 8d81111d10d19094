"""What databases are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine, event


@dataclass(frozen=True)
class Statement:
    """SQL as it is sent, and its values."""

    sql: str
    values: object


@contextmanager
def heard() -> Iterator[list[Statement]]:
    """All statements that this process sends meanwhile, in their order."""
    found: list[Statement] = []

    def hear(connection: object, cursor: object, sql: str, values: object, *_: object) -> None:
        found.append(Statement(sql, values))

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
