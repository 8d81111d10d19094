"""What an analysis has found, stored in one transaction with its end."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Insert, bindparam, case, exists, insert, select, update
from sqlalchemy.orm import Session, aliased

from vm.result import Result
from worker import daywords, rows
from worker.archive_tables import ItemRow, StandingAnalysis
from worker.columns import Base, Columns
from worker.jobs import Claim
from worker.store import coverage, leases, search, standing, switching
from worker.store.sessions import together
from worker.tables import Analysis, CoverageRow, Video

_LOCK = (
    select(Video.recorded_at, Video.duration)
    .where(Video.id == bindparam("of"))
    .with_for_update(key_share=True)
)
_CLEAR_CRASHES = update(Video).where(Video.id == bindparam("of"), Video.state == "readable").values(crashes=0)
_INSERT: dict[type[Base], Insert] = {table: insert(table) for table in coverage.BELOW}

_Other = aliased(Analysis)
_IS_FIRST = Analysis.run_id.is_(None) & ~(
    exists()
    .where(_Other.video_id == Analysis.video_id, _Other.asked_key == Analysis.asked_key, _Other.current)
    .correlate(Analysis)
)
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
        **leases.parameters(rows.RESULT_COLUMNS),
    )
    .returning(
        Analysis.id,
        Analysis.video_id,
        Analysis.run_id,
        Analysis.asked_key,
        Analysis.state,
        Analysis.current,
        Analysis.question,
        Analysis.query,
        exists().where(CoverageRow.analysis_id == Analysis.id).correlate(Analysis).label("is_covered"),
        exists()
        .where(ItemRow.new_analysis_id == Analysis.id, ItemRow.state == "asked")
        .correlate(Analysis)
        .label("is_of_run"),
        exists().where(StandingAnalysis.analysis_id == Analysis.id).correlate(Analysis).label("is_standing"),
    )
)


def finish(session: Session, claim: Claim, result: Result) -> bool:
    """False, and nothing is written, where another process has claimed the analysis since."""
    connection = session.connection()
    video = connection.execute(_LOCK, {"of": claim.video_id}).one_or_none()
    found = {f"new_{name}": value for name, value in rows.result_columns(result).items()}
    row: Any = connection.execute(_END, {**leases.by(claim.lease), **found}).one_or_none()
    if video is None or row is None:
        return False
    if claim.attempts > 1:  # what killed the process that was at this question was not the video
        connection.execute(_CLEAR_CRASHES, {"of": claim.video_id})
    _clear(session, row, claim.lease.fence)
    for table, columns in rows.result_rows(row.id, result, video.recorded_at).items():
        connection.execute(_INSERT[table], together(columns))
    when = daywords.touched(video.recorded_at, video.duration)
    search.index(session, [row], when, result.answer.text if result.answer else None)
    if row.is_of_run or not row.current:
        switching.follow(session, [row])
    if row.is_standing or row.run_id is not None:
        standing.ended(session, row.id, row.run_id)
    return True


def _clear(session: Session, row: Columns, fence: int) -> None:
    """Until its second lease there is nothing, but perhaps that it was cancelled before it was begun."""
    if fence > 1:
        coverage.clear(session, row.id)
    elif row.is_covered:
        coverage.clear(session, row.id, (CoverageRow,))
