"""What the tables' columns are made of: instants, texts and row numbers that every database keeps alike, and
URLs whose secrets lie apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Text,
    UniqueConstraint,
    cast,
    literal,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    attribute_keyed_dict,
    declared_attr,
    mapped_column,
    relationship,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from worker.jobs import State, VideoState
from worker.masking import HIDDEN, masked

# SQLite numbers rows by itself only in a column declared INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


Columns = Row[Any]
"""Of a row, by name, where a statement gives these instead of the row."""

SECRETIVE = ("video", "submission", "standing")
"""Whose URLs may be secret in part."""
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


class Clock(FunctionElement[datetime]):
    """Now, or so many seconds later (NULL: NULL), by the database's clock: as a part of a statement, so that
    nobody need ask for it first. The same all through the statement on PostgreSQL."""

    type = UtcDateTime()
    inherit_cache = True
    name = "clock"

    def __init__(self, *later: Any) -> None:
        super().__init__(*(cast(seconds, Double) for seconds in later))


@compiles(Clock, "postgresql")
def _clock_of_postgresql(clock: Clock, compiler: Any, **how: Any) -> str:
    later = compiler.process(clock.clauses, **how)
    return f"(statement_timestamp() + make_interval(secs => {later}))" if later else "statement_timestamp()"


@compiles(Clock, "sqlite")
def _clock_of_sqlite(clock: Clock, compiler: Any, **how: Any) -> str:
    """See `worker.database`: SQLite's own clock counts no microseconds."""
    return f"clock({compiler.process(clock.clauses, **how) or 0})"


class Turn(FunctionElement[bool]):
    """True, once nobody else is at the same in another transaction: on PostgreSQL it is waited for, and kept
    until this transaction has ended. SQLite's writers take turns anyway.

    Who has its turn and is gone is not waited for: see `worker.database.IDLE_TIMEOUT_MS`.
    """

    type = Boolean()
    inherit_cache = True
    name = "turn"

    def __init__(self, what: str) -> None:
        super().__init__(literal(what))


@compiles(Turn, "postgresql")
def _turn_of_postgresql(turn: Turn, compiler: Any, **how: Any) -> str:
    what = compiler.process(turn.clauses, **how)
    return f"((SELECT pg_advisory_xact_lock(hashtext({what}))) IS NOT NULL)"


@compiles(Turn, "sqlite")
def _turn_of_sqlite(turn: Turn, compiler: Any, **how: Any) -> str:
    return "1"


class Beside(FunctionElement[Any]):
    """What a subquery finds for a row that a statement has changed, to be returned with it.

    On SQLite SQLAlchemy names no tables in what is returned; here all are named, so that a column's name that
    two tables have means the right one.
    """

    inherit_cache = True
    name = "beside"

    def __init__(self, subquery: ColumnElement[Any]) -> None:
        super().__init__(subquery)
        self.type = subquery.type


@compiles(Beside)
def _named_in_full(beside: Beside, compiler: Any, **how: Any) -> str:
    return str(compiler.process(beside.clauses, **{**how, "include_table": True}))


class PlainText(TypeDecorator[str]):
    """Text from outside (model output, file names) in a form every database takes.

    PostgreSQL refuses NUL, and no database takes half a surrogate pair.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value and plain_text(value)


class MaskedText(PlainText):
    """The same, without what is secret in its URLs: analysts read it."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return super().process_bind_param(value and masked(value), dialect)


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


class MaskedJson(PlainJson):
    """The same, without what is secret in the URLs of its texts: analysts read it."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return _masked_json(super().process_bind_param(value, dialect))


def plain_text(written: str) -> str:
    return written.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def plain_json(value: Any) -> Any:
    """The same, with all texts in it made plain, and numbers that JSON does not know as texts."""
    if value is None or isinstance(value, int):  # most of what is stored are numbers
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain_json(part) for name, part in value.items()}
    if isinstance(value, Sequence):
        return [plain_json(part) for part in value]
    return value


def _masked_json(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {name: _masked_json(part) for name, part in value.items()}
    return [_masked_json(part) for part in value] if isinstance(value, list) else value


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


class Secret(Base):
    """A URL with all that opens it, whose own table has only what may be shown of it.

    Analysts may read every table but this one: see `worker.grants`.

    Attributes:
        name: of the column that it belongs into.
    """

    __tablename__ = "secrets"
    __table_args__ = tuple(UniqueConstraint(f"{owner}_id", "name") for owner in SECRETIVE)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(String(16))
    url: Mapped[str]
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    submission_id: Mapped[int | None] = mapped_column(ForeignKey("submissions.id", ondelete="CASCADE"))
    standing_id: Mapped[int | None] = mapped_column(ForeignKey("standing_questions.id", ondelete="CASCADE"))


class Secretive:
    """A row some of whose URLs have a secret part, which is kept apart."""

    @declared_attr
    def secrets(cls) -> Mapped[dict[str, Secret]]:
        by_name = attribute_keyed_dict("name")
        return relationship(collection_class=by_name, cascade="all, delete-orphan", passive_deletes=True)


def whole(name: str) -> hybrid_property[Any]:
    """A URL that a row has in full, while its column `name`, here `shown_NAME`, may be seen by everybody.

    In statements it is what the column has.
    """
    shown = f"shown_{name}"

    def kept(row: Any) -> Secret | None:
        return row.secrets.get(name) if HIDDEN in (getattr(row, shown) or "") else None

    def read(row: Any) -> str | None:
        secret = kept(row)
        return secret.url if secret else getattr(row, shown)

    def write(row: Any, url: str | None) -> None:
        secret, open_part = kept(row), url and masked(url)
        setattr(row, shown, open_part)
        if url is None or open_part == url:
            if secret:
                del row.secrets[name]
        elif secret:
            secret.url = url
        else:
            row.secrets[name] = Secret(name=name, url=url)

    return hybrid_property(read, write, expr=lambda cls: getattr(cls, shown))


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
    error_message: Mapped[str | None] = mapped_column(MaskedText)
    submitted_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def ordered_span() -> CheckConstraint:
    return CheckConstraint("0 <= start_seconds AND start_seconds <= end_seconds", name="span")
