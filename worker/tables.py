"""The rows: videos, the analyses asked of them, and the candidates, moments and answers they gave.

All spans are in seconds of the video's own timeline, all times UTC. Scores are the library's:
neither `confidence` nor `verifier_score` is a probability of being right.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeDecorator

from worker.jobs import STATES, VIDEO_STATES, State, VideoState

# SQLite numbers rows by itself only in a column declared INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


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
        return value and value.replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _ordered_span() -> CheckConstraint:
    return CheckConstraint("0 <= start_seconds AND start_seconds <= end_seconds", name="span")


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
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
        State: String(16),
        VideoState: String(16),
    }


class Video(Base):
    """A file's content, and where it was last seen. The facts are known once it has been opened."""

    __tablename__ = "videos"
    __table_args__ = (_one_of("state", VIDEO_STATES),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    uri: Mapped[str]
    state: Mapped[VideoState]
    duration: Mapped[float | None]
    frame_rate: Mapped[float | None]
    frame_count: Mapped[int | None] = mapped_column(BigInteger)
    width: Mapped[int | None]
    height: Mapped[int | None]
    codec: Mapped[str | None]
    rotation: Mapped[int | None]
    start_time: Mapped[float | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]


class Analysis(Base):
    """One question put to one video. `attempts` counts the claims, and fences off all but the last."""

    __tablename__ = "analyses"
    __table_args__ = (
        _one_of("state", STATES),
        Index(None, "video_id"),
        Index(None, "state", "submitted_at"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    idempotency_key: Mapped[str] = mapped_column(String(64), unique=True)
    question: Mapped[str]
    options: Mapped[list[str]]
    mode: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(128))
    state: Mapped[State]
    attempts: Mapped[int]
    plan: Mapped[dict[str, Any] | None]
    plan_fallback: Mapped[bool | None]
    query: Mapped[str | None]
    warnings: Mapped[list[str] | None]
    seconds: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    submitted_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    video: Mapped[Video] = relationship()
    candidates: Mapped[list[CandidateRow]] = relationship(order_by="CandidateRow.position", viewonly=True)
    moments: Mapped[list[MomentRow]] = relationship(order_by="MomentRow.rank", viewonly=True)
    answer: Mapped[AnswerRow | None] = relationship(viewonly=True)


class Scored:
    """The columns that candidates and moments share."""

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))
    start_seconds: Mapped[float]
    end_seconds: Mapped[float]
    confidence: Mapped[float]
    p_yes: Mapped[float | None]
    p_no: Mapped[float | None]
    verifier_score: Mapped[float | None]
    fallback: Mapped[bool]


class CandidateRow(Scored, Base):
    """A span the grounder proposed; `position` counts from 1 in the grounder's order."""

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("analysis_id", "position"), _ordered_span())

    position: Mapped[int]


class MomentRow(Scored, Base):
    """A span in its final place; `rank` counts from 1, the best first."""

    __tablename__ = "moments"
    __table_args__ = (UniqueConstraint("analysis_id", "rank"), _ordered_span())

    rank: Mapped[int]
    query: Mapped[str]


class AnswerRow(Base):
    """The answer's text, the chosen option's letter, and the segment it rests on."""

    __tablename__ = "answers"
    __table_args__ = (_ordered_span(),)

    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)
    text: Mapped[str]
    option: Mapped[str | None]
    start_seconds: Mapped[float]
    end_seconds: Mapped[float]
