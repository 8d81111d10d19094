"""The rows of archives that stay fresh: re-indexing runs and schedules, standing questions and their hits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.columns import MaskedText, PlainString, RowId, Secretive, one_of, ordered_span, whole
from worker.reindexing import CATCH_UPS, ITEM_STATES, RUN_STATES, CatchUp, ItemState, Reason, RunState
from worker.standing import DELIVERY_STATES, DeliveryState
from worker.tables import Analysis, Base, Collection, SourceRow, Spanned, Video

__all__ = ["Base"]


class ScheduleRow(Base):
    """When a run is to be planned and started by itself.

    `last_slot` is the last time, among those that `cron` names, that was started or let go.
    """

    __tablename__ = "schedules"
    __table_args__ = (one_of("catch_up", CATCH_UPS),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(PlainString(200), unique=True)
    cron: Mapped[str] = mapped_column(PlainString(200))
    time_zone: Mapped[str] = mapped_column(PlainString(64))
    rule: Mapped[dict[str, Any]]
    limits: Mapped[dict[str, Any]]
    catch_up: Mapped[CatchUp] = mapped_column(String(16))
    enabled: Mapped[bool]
    last_slot: Mapped[datetime]
    created_at: Mapped[datetime]


class RunRow(Base):
    """One re-indexing: what was chosen by which rule, to be asked of which checkpoint."""

    __tablename__ = "reindex_runs"
    __table_args__ = (
        one_of("state", RUN_STATES),
        UniqueConstraint("schedule_id", "slot"),
        Index(None, "state"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    state: Mapped[RunState] = mapped_column(String(16))
    rule: Mapped[dict[str, Any]]
    limits: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(128))
    estimated_seconds: Mapped[float | None]
    schedule_id: Mapped[int | None] = mapped_column(ForeignKey("schedules.id", ondelete="SET NULL"))
    slot: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ItemRow(Base):
    """One question of one video in a run.

    Attributes:
        source_analysis_id: the analysis that is asked anew; else `request` says what is asked.
        new_analysis_id: the analysis the run asked for.
        replaced_analysis_id: what readers saw before the switch.
    """

    __tablename__ = "reindex_items"
    __table_args__ = (
        one_of("state", ITEM_STATES),
        UniqueConstraint("run_id", "video_id", "asked_key"),
        Index(None, "run_id", "state"),
        Index(None, "video_id"),
        Index(None, "source_analysis_id"),
        Index(None, "new_analysis_id"),
        Index(None, "replaced_analysis_id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("reindex_runs.id", ondelete="CASCADE"))
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    asked_key: Mapped[str] = mapped_column(String(64))
    state: Mapped[ItemState] = mapped_column(String(16))
    reason: Mapped[Reason] = mapped_column(String(16))
    source_analysis_id: Mapped[int | None] = mapped_column(ForeignKey("analyses.id", ondelete="SET NULL"))
    request: Mapped[dict[str, Any] | None]
    new_analysis_id: Mapped[int | None] = mapped_column(ForeignKey("analyses.id", ondelete="SET NULL"))
    replaced_analysis_id: Mapped[int | None] = mapped_column(ForeignKey("analyses.id", ondelete="SET NULL"))
    switched_at: Mapped[datetime | None]

    run: Mapped[RunRow] = relationship()
    source_analysis: Mapped[Analysis | None] = relationship(foreign_keys=[source_analysis_id])


class StandingRow(Secretive, Base):
    """A question that every new video of a collection, or of one source in it, is asked.

    `active_from` and `active_until` bound when a recording must have been made, `hours` (as in 22:00-06:00,
    in `time_zone`) what time of day a hit must fall in.
    """

    __tablename__ = "standing_questions"
    __table_args__ = (
        Index(None, "collection_id"),
        Index(None, "source_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    source_id: Mapped[int | None] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    question: Mapped[str]
    options: Mapped[list[str]]
    mode: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    threshold: Mapped[float]
    active_from: Mapped[datetime | None]
    active_until: Mapped[datetime | None]
    hours: Mapped[str | None] = mapped_column(PlainString(11))
    time_zone: Mapped[str] = mapped_column(PlainString(64))
    shown_webhook_url: Mapped[str | None] = mapped_column("webhook_url")
    webhook_url = whole("webhook_url")
    enabled: Mapped[bool]
    created_at: Mapped[datetime]

    collection: Mapped[Collection] = relationship()
    source: Mapped[SourceRow | None] = relationship()


class StandingAnalysis(Base):
    """An analysis that was asked for by a standing question."""

    __tablename__ = "standing_analyses"
    __table_args__ = (Index(None, "analysis_id"),)

    standing_id: Mapped[int] = mapped_column(
        ForeignKey("standing_questions.id", ondelete="CASCADE"), primary_key=True
    )
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)


class HitRow(Spanned, Base):
    """An event that a standing question asks for, however often it was seen.

    `event_id` is the same in every delivery of it. The seconds are those of its best sighting, in that one's
    video; the instants reach over all sightings.
    """

    __tablename__ = "hits"
    __table_args__ = (
        one_of("delivery_state", DELIVERY_STATES),
        ordered_span(),
        Index(None, "standing_id", "ends_at"),
        Index(None, "video_id"),
        Index(None, "delivery_state", "deliver_at"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    standing_id: Mapped[int] = mapped_column(ForeignKey("standing_questions.id", ondelete="CASCADE"))
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    event_id: Mapped[str] = mapped_column(String(36), unique=True)
    score: Mapped[float]
    answer: Mapped[str | None]
    found_at: Mapped[datetime]
    delivery_state: Mapped[DeliveryState] = mapped_column(String(16))
    delivery_attempts: Mapped[int]
    deliver_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    delivery_error: Mapped[str | None] = mapped_column(MaskedText)

    standing: Mapped[StandingRow] = relationship()
    video: Mapped[Video] = relationship()


class SightingRow(Spanned, Base):
    """One moment of one analysis in which a hit was seen; `rank` is the moment's.

    `cut_before` and `cut_after`: the file, or the window it was found in, began or ended there, and the event
    may go on in another.
    """

    __tablename__ = "sightings"
    __table_args__ = (
        UniqueConstraint("hit_id", "analysis_id", "rank"),
        Index(None, "analysis_id"),
        ordered_span(),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    hit_id: Mapped[int] = mapped_column(ForeignKey("hits.id", ondelete="CASCADE"))
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))
    rank: Mapped[int]
    cut_before: Mapped[bool]
    cut_after: Mapped[bool]
    score: Mapped[float]
