"""What analysts look for most: moments, answers and searched windows, by words, place, hours and score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Subquery,
    Time,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    table,
)
from sqlalchemy.orm import Session, aliased
from sqlalchemy.types import NullType, TypeEngine

from worker.columns import UtcDateTime
from worker.daytime import Hours
from worker.jobs import Verdict
from worker.reader import Rows
from worker.store import search
from worker.store.sessions import Sessions
from worker.tables import Analysis, Collection, CoverageRow, SourceRow, Video

_WHENCE = ("analysis_id", "video_id", "collection", "source", "video", "question")
_SPAN = ("start_seconds", "end_seconds", "starts_at", "ends_at")
_SCORES = ("confidence", "p_yes", "p_no", "verifier_score", "fallback")
_ANSWER = ("answer", "answer_option")


_TYPES: dict[str, TypeEngine[Any]] = {
    "starts_at": UtcDateTime(),
    "ends_at": UtcDateTime(),
    "fallback": Boolean(),
}


def _view(name: str, *columns: str) -> FromClause:
    return table(name, *(column(each, _TYPES.get(each, NullType())) for each in columns))


_MOMENTS = _view("moment_view", "moment_id", *_WHENCE, "query", "rank", *_SPAN, *_SCORES, *_ANSWER)
_ANSWERS = _view("answer_view", *_WHENCE, *_ANSWER, *_SPAN)
_GAPS = _view("coverage_gap_view", *_WHENCE, "state", *_SPAN)


@dataclass(frozen=True)
class Wanted:
    """What all that is shown has in common. None is whatever it may be.

    Attributes:
        text: words that all occur in question, query and answer.
        collection, source: by name.
        since, until: what lies at or after the one and before the other.
        hours: the time of day at which it begins.
        limit: rows at most.

    What was recorded nobody knows when is left out where `since`, `until` or `hours` are given.
    """

    text: str | None = None
    collection: str | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    hours: Hours | None = None
    limit: int = 50

    @property
    def timed(self) -> bool:
        return any((self.since, self.until, self.hours))


class Browse:
    """Reads, and keeps nobody from writing. Rows have names as the views' columns."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def moments(self, wanted: Wanted, rank: int | None = 1, min_score: float | None = None) -> Rows:
        """Moments that begin then, the latest recorded first; without a time, the latest found first.

        Args:
            rank: 1 is the best of each analysis; None is all.
            min_score: the least verifier score, or confidence where nothing was verified.
        """
        c = _MOMENTS.c
        chosen = [c.starts_at >= wanted.since] if wanted.since else []
        if rank is not None:
            chosen.append(c.rank == rank)
        if min_score is not None:
            chosen.append(func.coalesce(c.verifier_score, c.confidence) >= min_score)
        order = (c.starts_at.desc(), c.moment_id.desc()) if wanted.timed else (c.moment_id.desc(),)
        return self._find(_MOMENTS, wanted, chosen, order)

    def answers(self, wanted: Wanted) -> Rows:
        """Answers that rest on what was seen then, the latest first."""
        return self._find(_ANSWERS, wanted, _touches(_ANSWERS, wanted), (_ANSWERS.c.analysis_id.desc(),))

    def windows(self, wanted: Wanted, verdict: Verdict | None = None) -> Rows:
        """Windows that were, or were to be, searched, and what came of it; the latest analysis first."""
        windows = _windows(placed=any((wanted.text, wanted.collection, wanted.source)))
        chosen = [windows.c.verdict == verdict] if verdict else []
        return self._find(windows, wanted, [*chosen, *_touches(windows, wanted)], _by_video(windows))

    def gaps(self, wanted: Wanted) -> Rows:
        """What of each video no window of an analysis has searched."""
        return self._find(_GAPS, wanted, _touches(_GAPS, wanted), _by_video(_GAPS))

    def _find(
        self,
        view: FromClause,
        wanted: Wanted,
        conditions: list[ColumnElement[bool]],
        order: tuple[ColumnElement[Any], ...],
    ) -> Rows:
        with self._sessions.reading() as session:
            conditions = [*conditions, *_conditions(session, view, wanted)]
            query = select(view).where(*conditions).order_by(*order).limit(wanted.limit)
            found = session.execute(query)
            return Rows(tuple(found.keys()), [tuple(row) for row in found])


def _conditions(session: Session, view: FromClause, wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    if wanted.text is not None:
        yield view.c.analysis_id.in_(search.matching(session, wanted.text, wanted.since, wanted.until))
    if wanted.collection is not None:
        yield view.c.collection == wanted.collection
    if wanted.source is not None:
        yield view.c.source == wanted.source
    if wanted.until is not None:
        yield view.c.starts_at < wanted.until
    if wanted.hours is not None and wanted.hours.begin is not None and wanted.hours.end is not None:
        yield _at(session, view.c.starts_at, wanted.hours, wanted.hours.begin, wanted.hours.end)


def _touches(view: FromClause, wanted: Wanted) -> list[ColumnElement[bool]]:
    return [view.c.ends_at > wanted.since] if wanted.since else []


def _by_video(view: FromClause) -> tuple[ColumnElement[Any], ...]:
    return view.c.analysis_id.desc(), view.c.start_seconds


def _at(
    session: Session, instant: ColumnElement[datetime], hours: Hours, begin: time, end: time
) -> ColumnElement[bool]:
    """Whether it is that time of day, by the clock on the wall of the hours' zone."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":  # which knows no time zones
        driver: Any = connection.connection.driver_connection
        driver.create_function("in_hours", 1, lambda text: _contain(hours, text))
        return func.in_hours(instant, type_=Boolean())
    clock = cast(func.timezone(hours.zone.key, instant), Time())
    return (clock >= begin) & (clock < end) if begin < end else or_(clock >= begin, clock < end)


def _contain(hours: Hours, text: str | None) -> bool:
    return text is not None and hours.contain(datetime.fromisoformat(f"{text}+00:00"))


def _windows(placed: bool) -> Subquery:
    """Every window of the analyses that readers see, and of those that ended without anything to see.

    Every analysis has a video. Where nothing tells which, SQLite would go through all of them first, unless
    they are joined as if there might be none.
    """
    standing = aliased(Analysis)
    instead = exists().where(
        standing.video_id == Analysis.video_id,
        standing.asked_key == Analysis.asked_key,
        standing.current,
    )
    return (
        select(
            CoverageRow.analysis_id,
            Analysis.video_id,
            Collection.name.label("collection"),
            SourceRow.name.label("source"),
            Video.uri.label("video"),
            Analysis.question,
            *(getattr(CoverageRow, name) for name in _SPAN),
            CoverageRow.frames,
            CoverageRow.best_confidence,
            CoverageRow.best_score,
            CoverageRow.verdict,
        )
        .join(Analysis, Analysis.id == CoverageRow.analysis_id)
        .join(Video, Video.id == Analysis.video_id, isouter=not placed)
        .outerjoin(SourceRow, SourceRow.id == Video.source_id)
        .outerjoin(Collection, Collection.id == SourceRow.collection_id)
        .where(or_(Analysis.current, Analysis.run_id.is_(None) & ~instead))
        .subquery("windows")
    )
