"""What lies below an analysis: made with its end, replaced with its next one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.orm import Session, joinedload

from vm.moments import Span
from worker import rows
from worker.store.sessions import in_batches
from worker.tables import Analysis, AnswerRow, CandidateRow, CoverageRow, MomentRow, Spanned, Video

Below = CandidateRow | MomentRow | AnswerRow | CoverageRow
BELOW: tuple[type[Below], ...] = (CandidateRow, MomentRow, AnswerRow, CoverageRow)
_CLEAR = [delete(table).where(table.analysis_id == bindparam("of")) for table in BELOW]


def clear(connection: Connection, analysis_id: int) -> None:
    """Forgets what was found by an earlier attempt."""
    for statement in _CLEAR:
        connection.execute(statement, {"of": analysis_id})


def cover(session: Session, analysis_ids: Sequence[int]) -> None:
    """Says of the videos whose analyses have ended without a result that they were not searched, or why."""
    for some in in_batches(analysis_ids):
        query = (
            select(Analysis)
            .where(Analysis.id.in_(some), Analysis.state.in_(("failed", "cancelled")))
            .options(joinedload(Analysis.video))
            .execution_options(populate_existing=True)
        )
        for row in session.scalars(query).all():
            if row.video.duration is not None:
                clear(session.connection(), row.id)
                session.add(rows.unsearched(row))


def retime(session: Session, video: Video) -> None:
    """Corrects the instants of all that was found in a video, whose recording's start is known by now."""
    for table in BELOW:
        found = select(table).join(Analysis, Analysis.id == table.analysis_id)
        for row in cast(Iterable[Spanned], session.scalars(found.where(Analysis.video_id == video.id))):
            span = Span(row.start_seconds, row.end_seconds)
            row.starts_at, row.ends_at = rows.instants(span, video.recorded_at)
