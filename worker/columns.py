"""What the tables' columns are made of: instants, texts and row numbers that every database keeps alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from worker.jobs import State, VideoState

# SQLite numbers rows by itself only in a column declared INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


_NO_CHARACTER = re.compile("[\0\ud800-\udfff]")


class UtcDateTime(TypeDecorator[datetime]):
    """An instant with its zone, in and out. SQLite drops the zone, so everything is brought to UTC first."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"a time without zone: {value}")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value and value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class PlainText(TypeDecorator[str]):
    """Text from outside (model output, file names) in a form every database takes.

    PostgreSQL refuses NUL, and no database takes half a surrogate pair.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and plain_text(value)


class PlainString(TypeDecorator[str]):
    """The same for texts of limited length, which must not become longer."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and _NO_CHARACTER.sub("\ufffd", value)


class PlainJson(TypeDecorator[Any]):
    """JSON whose texts and numbers are such as every database takes; None is NULL, not the JSON null."""

    impl = JSON
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return plain_json(value)


def plain_text(written: str) -> str:
    return written.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def plain_json(value: Any) -> Any:
    """The same, with all texts in it made plain, and numbers that JSON does not know as texts."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain_json(part) for name, part in value.items()}
    if isinstance(value, Sequence):
        return [plain_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        int: Integer(),
        float: Double(),
        str: PlainText(),
        datetime: UtcDateTime(),
        dict[str, Any]: PlainJson(),
        list[str]: PlainJson(),
        list[dict[str, Any]]: PlainJson(),
        State: String(16),
        VideoState: String(16),
    }


def claim_index(table: str) -> Index:
    """Gives what is to be claimed next without a search: the most urgent, and of these the oldest."""
    name = f"ix_{table}_state_priority_submitted_at"
    return Index(name, "state", text("priority DESC"), "submitted_at")


class Job:
    """Work that is a row before it is a message, and that one process at a time may do.

    Attributes:
        attempts: how often it was begun since it was asked for (again).
        fence: counts every claim ever made; only the holder of the last may write.
        lease_holder, lease_expires_at: who works on it, and until when nobody else may.
        not_before: when it may be tried again after a failure that may pass.
        losses: how often the process that worked on it was lost without a word.
    """

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    state: Mapped[State]
    priority: Mapped[int]
    attempts: Mapped[int]
    losses: Mapped[int]
    fence: Mapped[int]
    lease_holder: Mapped[str | None] = mapped_column(PlainString(200))
    lease_expires_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    cancel_requested: Mapped[bool]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    submitted_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def ordered_span() -> CheckConstraint:
    return CheckConstraint("0 <= start_seconds AND start_seconds <= end_seconds", name="span")
