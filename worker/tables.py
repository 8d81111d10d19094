"""The rows: what was submitted, videos, the analyses asked of them, and what these found.

All spans are in seconds of the video's own timeline, all times UTC. Where it is known when a recording
began, spans are there as instants as well. Scores are the library's: neither `confidence` nor
`verifier_score` is a probability of being right.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.columns import (
    Base,
    Job,
    MaskedJson,
    MaskedText,
    PlainString,
    RowId,
    Secretive,
    claim_index,
    one_of,
    ordered_span,
    whole,
)
from worker.jobs import ORIGINS, STATES, VERDICTS, VIDEO_STATES, Origin, Verdict, VideoState

__all__ = ["Base"]


class Collection(Base):
    """Sources that belong together: a site, a course."""

    __tablename__ = "collections"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str] = mapped_column(PlainString(200), unique=True)


class SourceRow(Base):
    """Where videos come from: a camera, a lecture hall.

    `recorded_at_pattern` reads the start of a recording out of a file's name; see `worker.recording`.
    """

    __tablename__ = "sources"
    __table_args__ = (UniqueConstraint("collection_id", "name"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(PlainString(200))
    recorded_at_pattern: Mapped[str | None]
    time_zone: Mapped[str | None] = mapped_column(PlainString(64))

    collection: Mapped[Collection] = relationship()


class Video(Secretive, Base):
    """A file's content, and where it was last seen. The facts are known once it has been opened."""

    __tablename__ = "videos"
    __table_args__ = (
        one_of("state", VIDEO_STATES),
        one_of("recorded_at_origin", ORIGINS),
        Index(None, "source_id", "recorded_at"),
        Index(None, "recorded_at"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    shown_uri: Mapped[str] = mapped_column("uri")
    uri = whole("uri")
    source_id: Mapped[int | None] = mapped_column(ForeignKey("sources.id", ondelete="SET NULL"))
    recorded_at: Mapped[datetime | None]
    recorded_at_origin: Mapped[Origin | None] = mapped_column(String(16))
    state: Mapped[VideoState]
    crashes: Mapped[int]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    duration: Mapped[float | None]
    frame_rate: Mapped[float | None]
    frame_count: Mapped[int | None] = mapped_column(BigInteger)
    width: Mapped[int | None]
    height: Mapped[int | None]
    codec: Mapped[str | None]
    rotation: Mapped[int | None]
    start_time: Mapped[float | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None] = mapped_column(MaskedText)
    added_at: Mapped[datetime]

    source: Mapped[SourceRow | None] = relationship()


class Submission(Job, Secretive, Base):
    """One video to be fetched, checked and registered, and what is to be asked of it.

    `key` is the producer's name for it: whatever is submitted twice under one key is one submission.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        one_of("state", STATES),
        claim_index("submissions"),
        Index(None, "video_id"),
        Index(None, "callback_at"),
    )

    key: Mapped[str] = mapped_column(PlainString(64), unique=True)
    shown_uri: Mapped[str] = mapped_column("uri")
    uri = whole("uri")
    collection: Mapped[str | None] = mapped_column(PlainString(200))
    source: Mapped[str | None] = mapped_column(PlainString(200))
    recorded_at: Mapped[datetime | None]
    force: Mapped[bool]
    shown_callback_url: Mapped[str | None] = mapped_column("callback_url")
    callback_url = whole("callback_url")
    callback_attempts: Mapped[int]
    callback_at: Mapped[datetime | None]
    callback_error: Mapped[str | None] = mapped_column(MaskedText)
    arguments: Mapped[dict[str, Any] | None] = mapped_column(MaskedJson)
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))

    requests: Mapped[list[RequestRow]] = relationship(order_by="RequestRow.position")


class RequestRow(Base):
    """One question of a submission, and the analysis that answers it, which others may ask for as well."""

    __tablename__ = "requests"
    __table_args__ = (UniqueConstraint("submission_id", "position"), Index(None, "analysis_id"))

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    submission_id: Mapped[int] = mapped_column(ForeignKey("submissions.id", ondelete="CASCADE"))
    position: Mapped[int]
    question: Mapped[str]
    options: Mapped[list[str]]
    subtitles: Mapped[list[dict[str, Any]] | None]
    mode: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    analysis_id: Mapped[int | None] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))


class Generation(Base):
    """All results made with one checkpoint and one set of settings."""

    __tablename__ = "generations"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(128))
    settings: Mapped[dict[str, Any]]
    begun_at: Mapped[datetime]


class Analysis(Job, Base):
    """One question put to one video, by one generation.

    `asked_key` is the same for all generations of it. At most one of them is `current`: what readers see.
    `run_id` names the re-indexing run that asked for it, if nobody else did; such an analysis becomes current
    together with all others of the run on its video. `followed` is true where a run or a standing question
    has to do with its end. `progress` goes from 0 to 1; `eta` is when what runs will have ended, if it goes
    on as it has, as far as that can be told. `compute_seconds` is what it took.
    """

    __tablename__ = "analyses"
    __table_args__ = (
        one_of("state", STATES),
        Index(None, "video_id", "state"),
        claim_index("analyses"),
        Index(None, "finished_at"),
        Index(
            "uq_analyses_current",
            "video_id",
            "asked_key",
            unique=True,
            sqlite_where=text("current"),
            postgresql_where=text("current"),
        ),
        Index(None, "video_id", "asked_key"),
        Index(None, "generation_id"),
        Index(None, "run_id", "state"),
    )

    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    idempotency_key: Mapped[str] = mapped_column(String(64), unique=True)
    question: Mapped[str]
    options: Mapped[list[str]]
    subtitles: Mapped[list[dict[str, Any]] | None]
    mode: Mapped[str] = mapped_column(String(16))
    settings: Mapped[dict[str, Any]]
    fingerprint: Mapped[str] = mapped_column(String(128))
    progress: Mapped[float]
    stage: Mapped[str | None] = mapped_column(String(16))
    eta: Mapped[datetime | None]
    plan: Mapped[dict[str, Any] | None]
    plan_fallback: Mapped[bool | None]
    query: Mapped[str | None]
    warnings: Mapped[list[str] | None]
    seconds: Mapped[dict[str, Any] | None]
    asked_key: Mapped[str] = mapped_column(String(64))
    current: Mapped[bool]
    generation_id: Mapped[int] = mapped_column(ForeignKey("generations.id"))
    run_id: Mapped[int | None] = mapped_column(ForeignKey("reindex_runs.id", ondelete="SET NULL"))
    compute_seconds: Mapped[float | None]
    followed: Mapped[bool] = mapped_column(server_default=false())

    video: Mapped[Video] = relationship()
    candidates: Mapped[list[CandidateRow]] = relationship(order_by="CandidateRow.position", viewonly=True)
    moments: Mapped[list[MomentRow]] = relationship(order_by="MomentRow.rank", viewonly=True)
    answer: Mapped[AnswerRow | None] = relationship(viewonly=True)
    coverage: Mapped[list[CoverageRow]] = relationship(order_by="CoverageRow.position", viewonly=True)


class Spanned:
    """A stretch of an analysed video. The instants are there where the recording's start is known."""

    start_seconds: Mapped[float]
    end_seconds: Mapped[float]
    starts_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]


class Scored(Spanned):
    """The columns that candidates and moments share."""

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))
    confidence: Mapped[float]
    p_yes: Mapped[float | None]
    p_no: Mapped[float | None]
    verifier_score: Mapped[float | None]
    fallback: Mapped[bool]


class CandidateRow(Scored, Base):
    """A span the grounder proposed; `position` counts from 1 in the grounder's order."""

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("analysis_id", "position"), ordered_span())

    position: Mapped[int]


class MomentRow(Scored, Base):
    """A span in its final place; `rank` counts from 1, the best first."""

    __tablename__ = "moments"
    __table_args__ = (UniqueConstraint("analysis_id", "rank"), Index(None, "starts_at"), ordered_span())

    rank: Mapped[int]
    query: Mapped[str]


class AnswerRow(Spanned, Base):
    """The answer's text, the chosen option's letter, and the segment it rests on."""

    __tablename__ = "answers"
    __table_args__ = (ordered_span(),)

    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"), primary_key=True)
    text: Mapped[str]
    option: Mapped[str | None]


class CoverageRow(Spanned, Base):
    """One window that was, or was to be, searched: how many frames were looked at, and what came of it.

    `best_confidence` is the grounder's for the best of what it proposed there; `best_score` is the best
    verifier score, or without a verifier the best confidence, of the candidates that lie there. None where
    there is none.
    """

    __tablename__ = "coverage"
    __table_args__ = (
        UniqueConstraint("analysis_id", "position"),
        one_of("verdict", VERDICTS),
        ordered_span(),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    analysis_id: Mapped[int] = mapped_column(ForeignKey("analyses.id", ondelete="CASCADE"))
    position: Mapped[int]
    frames: Mapped[int]
    best_confidence: Mapped[float | None]
    best_score: Mapped[float | None]
    verdict: Mapped[Verdict] = mapped_column(String(16))
