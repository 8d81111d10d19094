"""What an analysis has found, stored in one transaction with its end.

Most ends concern nobody else: the question's first answer, asked by no run and no standing question. On
PostgreSQL, where each statement is a way there and back, such an end is a single one. It does nothing where
there is more to do, or where what it was given is no longer so; then the general way is gone, in which
videos are locked first and looked at afterwards.

Whoever has to do with an end, or changes what readers see of the same question, may come at the same moment.
They lock the analysis and set `followed`, or find it ended; of two that become current together, and of two
that cover the same analysis, a unique index refuses one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, case, exists, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from vm.result import Result
from worker import daywords, rows
from worker.columns import Base
from worker.jobs import Claim
from worker.store import coverage, leases, search, standing, switching
from worker.store.listed import as_list, insert_listed
from worker.store.sessions import Sessions, new, parameters, together
from worker.tables import Analysis, CoverageRow, Video

_OF_IT = CoverageRow.analysis_id == Analysis.id
_LOCK = (
    select(Video.recorded_at, Video.duration, exists().where(_OF_IT).correlate(Analysis).label("is_covered"))
    .join_from(Video, Analysis)
    .where(leases.held(Analysis))
    .with_for_update(key_share=True, of=[Video, Analysis])  # in this order
)
_CLEAR_CRASHES = update(Video).where(Video.id == bindparam("of"), Video.state == "readable").values(crashes=0)

_Other = aliased(Analysis)
_IS_FIRST = Analysis.run_id.is_(None) & ~(
    exists()
    .where(_Other.video_id == Analysis.video_id, _Other.asked_key == Analysis.asked_key, _Other.current)
    .correlate(Analysis)
)
_ENDED = update(Analysis).values(
    **leases.ended(Analysis),
    state="succeeded",
    progress=1.0,
    stage="done",
    **parameters(rows.RESULT_COLUMNS),
)
_END = (
    _ENDED.where(leases.held(Analysis))
    .values(current=case((_IS_FIRST, True), else_=Analysis.current))
    .returning(
        Analysis.id,
        Analysis.video_id,
        Analysis.run_id,
        Analysis.asked_key,
        Analysis.state,
        Analysis.current,
        Analysis.followed,
    )
)
_INSERT: dict[type[Base], Insert] = {table: insert(table) for table in coverage.BELOW}


def finish_alone(sessions: Sessions, claim: Claim, result: Result) -> bool:
    """False, and nothing is written, where it takes more than one statement. On PostgreSQL."""
    if claim.followed or claim.attempts > 1:  # to be followed, or to clear crashes of the video
        return False
    found = rows.result_rows(claim.analysis_id, result, claim.recorded_at)
    given = {
        **_given(claim, result),
        "words": _words(claim, result, claim.recorded_at, claim.duration),
        **{table.__tablename__: as_list(found.get(table, ())) for table in coverage.BELOW},
        "of_video": claim.video_id,
        "of_recorded_at": claim.recorded_at,
        "of_duration": claim.duration,
    }
    try:
        return bool(sessions.execute(_END_ALONE, given))
    except IntegrityError:  # another one is current, or covers it; for any other reason it is raised again
        return False


def finish(connection: Connection, claim: Claim, result: Result) -> bool:
    """False, and nothing is written, where another process has claimed the analysis since."""
    video: Any = connection.execute(_LOCK, leases.by(claim.lease)).one_or_none()
    if video is None:
        return False
    if claim.attempts > 1:  # what killed the process that was at this question was not the video
        connection.execute(_CLEAR_CRASHES, {"of": claim.video_id})
    if claim.lease.fence > 1 or video.is_covered:  # by an earlier lease, or as it was cancelled before any
        coverage.clear(connection, claim.analysis_id)
    ended = connection.execute(_END, _given(claim, result)).one()
    for table, columns in rows.result_rows(claim.analysis_id, result, video.recorded_at).items():
        connection.execute(_INSERT[table], together(columns))
    words = _words(claim, result, video.recorded_at, video.duration)
    search.index(connection, {claim.analysis_id: words})
    _follow(connection, ended)
    return True


def _given(claim: Claim, result: Result) -> dict[str, object]:
    """What both statements that write the end must be given."""
    return {**leases.by(claim.lease), **new(rows.result_columns(result))}


def _words(claim: Claim, result: Result, recorded_at: datetime | None, duration: float | None) -> str:
    """By which it is found from now on."""
    when = daywords.touched(recorded_at, duration)
    texts = (claim.request.question, result.query, result.answer.text if result.answer else None, *when)
    return search.words(texts)


def _follow(connection: Connection, ended: Any) -> None:
    if ended.current and not ended.followed and ended.run_id is None:
        return
    with Session(connection) as session, session.begin():
        switching.follow(session, [ended])
        standing.ended(session, ended.id, ended.run_id)


def _alone() -> Select[Any]:
    as_claimed = [
        column.is_not_distinct_from(bindparam(f"of_{column.key}", type_=column.type))
        for column in (Video.recorded_at, Video.duration)
    ]
    of_video = Video.id == bindparam("of_video")  # or a server without statistics reads all videos
    # What is not so any more when its lock is there is looked at again, but only in the locked rows.
    nobody_else = Analysis.followed.is_(False), _IS_FIRST
    locked = _LOCK.with_only_columns(Analysis.id).where(of_video, *as_claimed, *nobody_else).cte("locked")
    end = _ENDED.values(current=True).where(Analysis.id.in_(select(locked.c.id)))
    ended = end.returning(Analysis.id).cte("ended")
    inserted = [insert_listed(table, ended).cte(f"new_{table.__tablename__}") for table in coverage.BELOW]
    return search.indexed(ended).add_cte(*inserted)


_END_ALONE = _alone()
