"""What an analysis has found, stored in one transaction with its end."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Insert, Select, bindparam, case, exists, insert, select, update
from sqlalchemy.orm import Session, aliased

from vm.result import Result
from worker import daywords, rows
from worker.archive_tables import ItemRow, StandingAnalysis
from worker.columns import Base, Beside, Columns
from worker.jobs import Claim
from worker.store import coverage, leases, search, standing, switching
from worker.store.listed import as_list, insert_listed
from worker.store.sessions import dialect_of, new, parameters, together
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
_ITEM = exists().where(ItemRow.new_analysis_id == Analysis.id, ItemRow.state == "asked")
_STANDING = exists().where(StandingAnalysis.analysis_id == Analysis.id)
# Most replace nothing, and concern nobody else: that is seen by the way, with no statement of its own.
_END = (
    update(Analysis)
    .where(leases.held(Analysis))
    .values(
        **leases.ENDED,
        state="succeeded",
        progress=1.0,
        stage="done",
        current=case((_IS_FIRST, True), else_=Analysis.current),
        **parameters(rows.RESULT_COLUMNS),
    )
    .returning(
        Analysis.id,
        Analysis.video_id,
        Analysis.run_id,
        Analysis.asked_key,
        Analysis.state,
        Analysis.current,
        Beside(_ITEM.correlate(Analysis)).label("is_of_run"),
        Beside(_STANDING.correlate(Analysis)).label("is_standing"),
    )
)
_INSERT: dict[type[Base], Insert] = {table: insert(table) for table in coverage.BELOW}


def finish(connection: Connection, claim: Claim, result: Result) -> bool:
    """False, and nothing is written, where another process has claimed the analysis since."""
    video: Any = connection.execute(_LOCK, leases.by(claim.lease)).one_or_none()
    if video is None:
        return False
    if claim.attempts > 1:  # what killed the process that was at this question was not the video
        connection.execute(_CLEAR_CRASHES, {"of": claim.video_id})
    if claim.lease.fence > 1 or video.is_covered:  # by an earlier lease, or as it was cancelled before any
        coverage.clear(connection, claim.analysis_id)
    ended = _end(connection, claim, result, video)
    _follow(connection, ended)
    return True


def _follow(connection: Connection, ended: Any) -> None:
    is_switching = ended.is_of_run or not ended.current
    is_standing = ended.is_standing or ended.run_id is not None
    if not is_switching and not is_standing:
        return
    with Session(connection) as session, session.begin():
        if is_switching:
            switching.follow(session, [ended])
        if is_standing:
            standing.ended(session, ended.id, ended.run_id)


def _end(connection: Connection, claim: Claim, result: Result, video: Columns) -> Any:
    """Writes the end and all that was found: on PostgreSQL in one statement, for each is a way there and
    back."""
    given = {**leases.by(claim.lease), **new(rows.result_columns(result))}
    found = rows.result_rows(claim.analysis_id, result, video.recorded_at)
    when = daywords.touched(video.recorded_at, video.duration)
    texts = (claim.request.question, result.query, result.answer.text if result.answer else None, *when)
    words = search.words(texts)
    if dialect_of(connection) == "postgresql":
        lists = {table.__tablename__: as_list(found.get(table, ())) for table in coverage.BELOW}
        given |= {**lists, "of": claim.analysis_id, "words": words}
        return connection.execute(_END_AT_ONCE, given).one()
    ended = connection.execute(_END, given).one()
    for table, columns in found.items():
        connection.execute(_INSERT[table], together(columns))
    search.index(connection, {claim.analysis_id: words})
    return ended


def _at_once() -> Select[Any]:
    """On PostgreSQL. Gives what `_END` does."""
    inserted = [insert_listed(table).cte(f"new_{table.__tablename__}") for table in coverage.BELOW]
    ended = _END.cte("ended")
    return select(ended).add_cte(*inserted, search.ADD.cte("new_words"))


_END_AT_ONCE = _at_once()
