"""Every query. Outside of this file rows are frozen dataclasses, and transactions are method calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, CursorResult, Select, and_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from vm.errors import VideoMindError
from vm.result import Result, VideoFacts
from worker import rows
from worker.database import open_engine, translated_errors
from worker.errors import INTERNAL_ERROR
from worker.jobs import ABANDONED_AFTER, Claim, Outcome, Request
from worker.media import Source
from worker.tables import Analysis, Video

Row = TypeVar("Row", Video, Analysis)


class Store:
    """The database of one process.

    Raises:
        DatabaseUnusable: from every method, where the database cannot be opened or stops answering.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.dispose()

    def submit(self, source: Source, request: Request, fingerprint: str) -> int:
        """The id of the analysis that answers this request, new or known.

        What has failed is queued again; what is queued, running or answered stays as it is.
        """
        key = request.key(source.sha256, fingerprint)
        with self._transaction() as session:
            video = _found_or_added(session, select(Video).filter_by(sha256=source.sha256), _video(source))
            video.uri = source.uri
            new = _analysis(video.id, request, fingerprint, key)
            analysis = _found_or_added(session, select(Analysis).filter_by(idempotency_key=key), new)
            if analysis.state == "failed":
                analysis.state = "queued"
            return analysis.id

    def claim(self, analysis_ids: Sequence[int]) -> list[Claim]:
        """Takes those that are queued, or left behind by a dead process, ordered by video."""
        now = datetime.now(UTC)
        left_behind = and_(Analysis.state == "running", Analysis.started_at < now - ABANDONED_AFTER)
        take = (
            update(Analysis)
            .where(Analysis.id.in_(analysis_ids), or_(Analysis.state == "queued", left_behind))
            .values(state="running", attempts=Analysis.attempts + 1, started_at=now, **_NOT_FINISHED)
            .returning(Analysis.id)
        )
        with self._transaction() as session:
            taken = session.scalars(take).all()
            found = select(Analysis).where(Analysis.id.in_(taken)).order_by(Analysis.video_id, Analysis.id)
            return [rows.claim_of(row) for row in session.scalars(found)]

    def record_facts(self, video_id: int, facts: VideoFacts) -> None:
        """What was learnt on opening the video."""
        columns = {"state": "readable", "error_code": None, "error_message": None, **rows.fact_columns(facts)}
        with self._transaction() as session:
            session.execute(update(Video).where(Video.id == video_id).values(columns))

    def record_unreadable(self, video_id: int, error: VideoMindError) -> None:
        """Why the video could not be opened."""
        columns = {"state": "unreadable", "error_code": error.code, "error_message": str(error)}
        with self._transaction() as session:
            session.execute(update(Video).where(Video.id == video_id).values(columns))

    def finish(self, claim: Claim, result: Result) -> bool:
        """The result and the end of the analysis, in one transaction.

        False, and nothing is written, where another process has claimed the analysis since.
        """
        with self._transaction() as session:
            held = _end(session, claim, state="succeeded", **rows.result_columns(result))
            if held:
                session.add_all(rows.result_rows(claim.analysis_id, result))
        return held

    def fail(self, claim: Claim, error: Exception) -> bool:
        """The analysis ends as failed, with the error's code and message.

        False, and nothing is written, where another process has claimed the analysis since.
        """
        code, message = INTERNAL_ERROR, f"{type(error).__name__}: {error}"
        if isinstance(error, VideoMindError):
            code, message = error.code, str(error)
        with self._transaction() as session:
            return _end(session, claim, state="failed", error_code=code, error_message=message)

    def release(self, claims: Sequence[Claim]) -> None:
        """Hands back what is still running under these claims, for somebody else to take."""
        with self._transaction() as session:
            for claim in claims:
                session.execute(update(Analysis).where(_held(claim)).values(state="queued", started_at=None))

    def outcomes(self, analysis_ids: Sequence[int]) -> list[Outcome]:
        """What became of these analyses, in the given order; ids that do not exist are left out."""
        with self._transaction() as session:
            found = session.scalars(select(Analysis).where(Analysis.id.in_(analysis_ids)))
            by_id = {row.id: rows.outcome_of(row) for row in found}
        return [by_id[analysis_id] for analysis_id in analysis_ids if analysis_id in by_id]

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with translated_errors(self.engine), Session(self.engine) as session, session.begin():
            yield session


_NOT_FINISHED: dict[str, Any] = {"finished_at": None, "error_code": None, "error_message": None}


def _video(source: Source) -> Video:
    return Video(sha256=source.sha256, uri=source.uri, state="known")


def _analysis(video_id: int, request: Request, fingerprint: str, key: str) -> Analysis:
    return Analysis(
        video_id=video_id,
        idempotency_key=key,
        question=request.question,
        options=list(request.options),
        mode=request.mode,
        settings=asdict(request.settings),
        fingerprint=fingerprint,
        state="queued",
        attempts=0,
        submitted_at=datetime.now(UTC),
    )


def _found_or_added(session: Session, query: Select[Row], row: Row) -> Row:
    """What the query finds, else the new row. Another process may add the same one in between."""
    if (known := session.scalar(query)) is not None:
        return known
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return session.scalars(query).one()
    return row


def _held(claim: Claim) -> ColumnElement[bool]:
    """True of the row as long as nobody has claimed it later: every claim counts `attempts` up."""
    return and_(
        Analysis.id == claim.analysis_id, Analysis.state == "running", Analysis.attempts == claim.attempt
    )


def _end(session: Session, claim: Claim, **values: Any) -> bool:
    statement = update(Analysis).where(_held(claim)).values(finished_at=datetime.now(UTC), **values)
    return cast(CursorResult[Any], session.execute(statement)).rowcount == 1
