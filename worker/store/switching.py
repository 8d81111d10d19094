"""Which analysis of a question readers see: the one that ended last, or with its whole video in a run.

A good answer goes only when a better one is there: whatever ends without a result replaces nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, bindparam, exists, select, update
from sqlalchemy.orm import Session

from worker.archive_tables import ItemRow, RunRow
from worker.columns import Columns
from worker.jobs import State
from worker.reindexing import ItemState
from worker.store import leases
from worker.store.sessions import in_batches
from worker.tables import Analysis, Video

_UNCHANGED: dict[State, ItemState] = {
    "succeeded": "unchanged",
    "failed": "failed",
    "cancelled": "cancelled",
}


_REPLACE = (
    update(Analysis)
    .where(
        Analysis.video_id == bindparam("on"),
        Analysis.asked_key == bindparam("asked"),
        Analysis.current,
        Analysis.id != bindparam("of"),
    )
    .values(current=False)
    .returning(Analysis.id)
)
_SHOW = update(Analysis).where(Analysis.id == bindparam("of")).values(current=True)
_ASKED = (
    select(ItemRow.run_id, ItemRow.video_id)
    .where(ItemRow.new_analysis_id.in_(bindparam("ids", expanding=True)), ItemRow.state == "asked")
    .distinct()
    .order_by(ItemRow.run_id, ItemRow.video_id)
)


def make_current(session: Session, answered: Sequence[Analysis | Columns]) -> dict[int, int | None]:
    """Has readers see these analyses. Gives what each of them replaced, by id.

    Whoever calls has locked the videos' rows: there two ends of the same question wait for each other.
    """
    replaced: dict[int, int | None] = {}
    connection = session.connection()
    for row in answered:
        given = {"of": row.id, "on": row.video_id, "asked": row.asked_key}
        replaced[row.id] = connection.scalar(_REPLACE, given)
        connection.execute(_SHOW, {"of": row.id})
    return replaced


def ended(session: Session, analysis_ids: Sequence[int]) -> None:
    """What follows for readers when analyses have ended: what only a run asks for waits for the others of the
    run on its video."""
    for some in in_batches(analysis_ids):
        query = select(Analysis).where(Analysis.id.in_(some)).execution_options(populate_existing=True)
        follow(session, session.scalars(query).all())


def follow(session: Session, analyses: Sequence[Analysis | Columns]) -> None:
    """The same, for rows at hand. Whoever calls has locked their videos."""
    answered = [row for row in analyses if row.run_id is None and row.state == "succeeded"]
    make_current(session, [row for row in answered if not row.current])
    if analyses:
        asked = session.connection().execute(_ASKED, {"ids": [row.id for row in analyses]}).all()
        for run_id, video_id in asked:
            switch_if_whole(session, run_id, video_id)


def switch_if_whole(session: Session, run_id: int, video_id: int) -> None:
    """Has readers see what a run found in a video, all at once, when the last of its questions has ended.

    What has ended without a result leaves in place what was there.
    """
    lock_videos(session, [video_id])
    of_video = ItemRow.run_id == run_id, ItemRow.video_id == video_id
    query = select(ItemRow, Analysis).outerjoin(Analysis, Analysis.id == ItemRow.new_analysis_id)
    query = query.where(*of_video, ItemRow.state.in_(("waiting", "asked"))).order_by(ItemRow.id)
    found = session.execute(query.execution_options(populate_existing=True)).all()
    if not found or not all(_is_over(item, row) for item, row in found):
        return
    moment = leases.now(session)
    changed = [row for _, row in found if row.state == "succeeded" and not row.current]
    replaced = make_current(session, changed)
    for item, row in found:
        if row.id in replaced:
            item.state, item.replaced_analysis_id, item.switched_at = "switched", replaced[row.id], moment
        else:
            item.state = _UNCHANGED[row.state]
    session.flush()
    finish_run_if_done(session, run_id)


def _is_over(item: ItemRow, row: Analysis | None) -> bool:
    return item.state == "asked" and row is not None and row.state in _UNCHANGED


def finish_run_if_done(session: Session, run_id: int) -> None:
    """A run of which nothing is left has ended.

    Two that switch its last videos at the same time do not see each other's: the second looks when the first
    is done.
    """
    session.execute(select(RunRow.id).where(RunRow.id == run_id).with_for_update())
    left = exists().where(ItemRow.run_id == run_id, ItemRow.state.in_(("waiting", "asked")))
    session.execute(
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.state == "running", ~left)
        .values(state="finished", finished_at=leases.now(session))
        .execution_options(synchronize_session=False)
    )


def lock_videos(session: Session, video_ids: Sequence[int]) -> None:
    """Whoever changes what readers see of a video, or adds to it, locks it before its analyses, and several
    in the order of their ids: so no two wait for each other for ever."""
    chosen = select(Video.id).where(Video.id.in_(set(video_ids))).order_by(Video.id)
    session.execute(chosen.with_for_update(key_share=True)).all()


def lock_videos_of(session: Session, which: ColumnElement[bool]) -> None:
    """The videos of some analyses."""
    lock_videos(session, session.scalars(select(Analysis.video_id).where(which).distinct()).all())
