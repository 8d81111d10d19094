"""Re-indexing runs: planned, fed to the queue bit by bit, held back, ended, taken back.

A run's questions wait as items. Only a few at a time become analyses, below all live work, so that a run can
be held back at once, and whatever is lost of it is found again as all lost work is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from worker import rows
from worker.archive_tables import ItemRow, RunRow, StandingAnalysis
from worker.errors import RunRefused
from worker.reindexing import ItemState, Limits, Rule, Run, RunState, Selection
from worker.store import asking, leases, selection, switching
from worker.store.sessions import Sessions, in_batches
from worker.tables import Analysis, RequestRow, Video

AT_ONCE = 8
"""Analyses of a run that are in the queue at a time, but never less than one video's."""

_OPEN: tuple[ItemState, ...] = ("waiting", "asked")


class Reindex:
    """The tables `reindex_runs` and `reindex_items`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def plan(self, rule: Rule, limits: Limits, fingerprint: str) -> tuple[int, Selection]:
        """A run of all that the rule chooses, to be started later: its id, and how much it is."""
        with self._sessions.begin() as session:
            return planned(session, rule, limits, fingerprint)

    def estimate(self, rule: Rule, fingerprint: str) -> Selection:
        """How much the rule chooses. Nothing is kept."""
        with self._sessions.begin() as session:
            trial = session.begin_nested()
            _, found = planned(session, rule, Limits(), fingerprint)
            trial.rollback()
            return found

    def runs(self, states: Sequence[RunState] = (), most: int = 100) -> list[Run]:
        """Runs in these states (all where none is named), the latest first."""
        query = select(RunRow).order_by(RunRow.id.desc()).limit(most)
        if states:
            query = query.where(RunRow.state.in_(states))
        with self._sessions.begin() as session:
            return [_told(session, row) for row in session.scalars(query)]

    def run(self, run_id: int) -> Run:
        """Raises RunRefused: there is no such run."""
        with self._sessions.begin() as session:
            return _told(session, _known(session, run_id))

    def is_running(self) -> bool:
        """Whether any run has something to ask."""
        with self._sessions.begin() as session:
            return bool(session.scalar(select(exists().where(RunRow.state == "running"))))

    def start(self, run_id: int) -> None:
        """Begins a planned run, or goes on with a paused one.

        Raises:
            RunRefused: it is neither.
        """
        with self._sessions.begin() as session:
            row = _known(session, run_id, "planned", "paused")
            row.state, row.started_at = "running", row.started_at or leases.now(session)
            session.flush()
            switching.finish_run_if_done(session, run_id)

    def pause(self, run_id: int) -> None:
        """Takes back what nobody has begun; what has begun ends.

        Raises:
            RunRefused: it does not run.
        """
        with self._sessions.begin() as session:
            _known(session, run_id, "running").state = "paused"
        self._withdraw(run_id)

    def cancel(self, run_id: int) -> None:
        """Ends a run for good. What was switched stays; what has begun ends, and changes nothing.

        Raises:
            RunRefused: it has ended.
        """
        with self._sessions.begin() as session:
            row = _known(session, run_id, "planned", "running", "paused")
            row.state, row.finished_at = "cancelled", leases.now(session)
        self._withdraw(run_id)
        with self._sessions.begin() as session:
            over = update(ItemRow).where(ItemRow.run_id == run_id, ItemRow.state.in_(_OPEN))
            session.execute(over.values(state="cancelled"))
            leases.ask_to_end(session, Analysis, (Analysis.run_id == run_id) & (Analysis.state == "running"))

    def rollback(self, run_id: int) -> tuple[int, int]:
        """Has readers see again what they saw before the run, in one transaction.

        Returns:
            How many questions were switched back; and how many were not, since somebody has asked them anew
            since, or what they had was pruned.

        Raises:
            RunRefused: it has switched nothing yet, or was rolled back before.
        """
        if self.run(run_id).state in ("running", "paused"):
            self.cancel(run_id)
        with self._sessions.begin() as session:
            row = _known(session, run_id, "finished", "cancelled")
            items = _switched(session, run_id)
            back = [item for item, new in items if new is not None and new.current]
            _switch_back(session, back)
            row.state = "rolled_back"
            left = select(func.count()).where(
                ItemRow.run_id == run_id, ItemRow.state.in_(("switched", "pruned"))
            )
            session.flush()
            return len(back), session.scalar(left) or 0

    def feed(self, fingerprint: str) -> int:
        """Has the next questions of all runs for this checkpoint asked, as far as their limits allow.

        Harmless at the same time: one after the other. How many videos there are to answer now.
        """
        running = select(RunRow.id).where(RunRow.state == "running", RunRow.fingerprint == fingerprint)
        with self._sessions.begin() as session:
            ids = session.scalars(running.order_by(RunRow.id)).all()
        return sum(self._feed(run_id) for run_id in ids)

    def _feed(self, run_id: int) -> int:
        with self._sessions.begin() as session:
            leases.take_turns(session, "reindex")
            row = session.get(RunRow, run_id)
            if row is None or row.state != "running":
                return 0
            allowed = _is_allowed(session, row, leases.now(session))
            videos = _next_videos(session, run_id) if allowed else []
            for video_id in videos:
                _ask(session, row, video_id)
            if not videos:
                switching.finish_run_if_done(session, run_id)
        if not allowed:
            self._withdraw(run_id)
        return len(videos)

    def _withdraw(self, run_id: int) -> None:
        """Takes back what waits in the queue and nobody else waits for."""
        asked = exists().where(RequestRow.analysis_id == Analysis.id)
        waiting = (Analysis.run_id == run_id) & (Analysis.state == "queued") & ~asked
        with self._sessions.begin() as session:
            switching.lock_videos_of(session, waiting)
            query = select(Analysis.id).where(waiting).order_by(Analysis.id).with_for_update()
            for some in in_batches(session.scalars(query).all()):
                of_items = ItemRow.new_analysis_id.in_(some), ItemRow.state == "asked"
                again = {"state": "waiting", "new_analysis_id": None}
                session.execute(update(ItemRow).where(*of_items).values(again))
                session.execute(delete(Analysis).where(Analysis.id.in_(some)))


def planned(session: Session, rule: Rule, limits: Limits, fingerprint: str) -> tuple[int, Selection]:
    """A new run, with all that its rule chooses."""
    moment = leases.now(session)
    row = RunRow(
        state="planned",
        rule=rule.to_stored(),
        limits=limits.to_stored(),
        fingerprint=fingerprint,
        created_at=moment,
    )
    session.add(row)
    session.flush()
    selection.choose(session, row.id, rule, fingerprint, moment)
    found = selection.summary(session, row.id, fingerprint)
    row.estimated_seconds = found.estimated_seconds
    session.flush()
    return row.id, found


def _known(session: Session, run_id: int, *states: RunState) -> RunRow:
    row = session.get(RunRow, run_id, with_for_update=bool(states))
    if row is None:
        raise RunRefused(f"there is no run {run_id}: `videomind reindex status` lists them")
    if states and row.state not in states:
        raise RunRefused(f"run {run_id} is {row.state.replace('_', ' ')}, not {' or '.join(states)}")
    return row


def _told(session: Session, row: RunRow) -> Run:
    of_run = select(ItemRow.state, func.count()).where(ItemRow.run_id == row.id).group_by(ItemRow.state)
    return Run(
        row.id,
        row.state,
        Rule.from_stored(row.rule),
        Limits.from_stored(row.limits),
        row.fingerprint,
        row.estimated_seconds,
        dict(session.execute(of_run).all()),
        _spent(session, row.id, None),
        row.created_at,
        row.started_at,
        row.finished_at,
    )


def _is_allowed(session: Session, row: RunRow, moment: datetime) -> bool:
    """Whether it is one of the run's hours, and it has some of its budget left."""
    limits = Limits.from_stored(row.limits)
    if not limits.daytime.contain(moment):
        return False
    if limits.compute_hours is None:
        return True
    return _spent(session, row.id, limits.daytime.opened(moment)) < limits.compute_hours * 3600


def _spent(session: Session, run_id: int, since: datetime | None) -> float:
    """Seconds that a run's analyses have taken."""
    mine = select(func.sum(Analysis.compute_seconds)).where(Analysis.run_id == run_id)
    return float(session.scalar(mine if since is None else mine.where(Analysis.finished_at >= since)) or 0.0)


def _next_videos(session: Session, run_id: int) -> Sequence[int]:
    """The videos whose questions are next, as far as there is room for them."""
    asked = select(func.count(ItemRow.id)).join(Analysis, Analysis.id == ItemRow.new_analysis_id)
    open_ones = Analysis.state.in_(("queued", "running"))
    of_run = asked.where(ItemRow.run_id == run_id, ItemRow.state == "asked", open_ones)
    room = AT_ONCE - (session.scalar(of_run) or 0)
    if room <= 0:
        return []
    waiting = select(ItemRow.video_id, func.count()).where(
        ItemRow.run_id == run_id, ItemRow.state == "waiting"
    )
    query = waiting.group_by(ItemRow.video_id).order_by(ItemRow.video_id).limit(room)
    chosen: list[int] = []
    for video_id, count in session.execute(query):
        if room > 0:
            chosen.append(video_id)
            room -= count
    return chosen


def _ask(session: Session, row: RunRow, video_id: int) -> None:
    """Has one video's questions asked. What was answered before by this checkpoint need not be."""
    query = select(Video).where(Video.id == video_id).with_for_update(key_share=True)
    video = session.scalars(query.execution_options(populate_existing=True)).one()
    of_video = ItemRow.run_id == row.id, ItemRow.video_id == video_id, ItemRow.state == "waiting"
    items = session.scalars(select(ItemRow).where(*of_video).order_by(ItemRow.id)).all()
    if video.state != "readable":
        for item in items:
            item.state = "failed"
        switching.finish_run_if_done(session, row.id)
        return
    wanted = asking.Wanted(row.fingerprint, Limits.from_stored(row.limits).priority, run_id=row.id)
    asked = asking.ask(session, video, [rows.request_of(_asked_of(item)) for item in items], wanted)
    for item, analysis in zip(items, asked, strict=True):
        item.new_analysis_id, item.state = analysis.id, "asked"
        analysis.followed = True
        _keep_standing(session, item.source_analysis_id, analysis.id)
    session.flush()
    switching.switch_if_whole(session, row.id, video_id)


def _asked_of(item: ItemRow) -> Analysis | RequestRow:
    """What an item asks: as an analysis did, or as it says itself."""
    return item.source_analysis or RequestRow(**(item.request or {}))


def _keep_standing(session: Session, old: int | None, new: int) -> None:
    """A standing question's analysis is still its own in a later generation."""
    known = select(StandingAnalysis.standing_id).where(StandingAnalysis.analysis_id == new)
    links = select(StandingAnalysis.standing_id).where(
        StandingAnalysis.analysis_id == old, StandingAnalysis.standing_id.not_in(known)
    )
    for standing_id in session.scalars(links).all():
        session.add(StandingAnalysis(standing_id=standing_id, analysis_id=new))


def _switched(session: Session, run_id: int) -> list[tuple[ItemRow, Analysis | None]]:
    """What a run has switched, with its videos locked."""
    of_run = ItemRow.run_id == run_id, ItemRow.state == "switched"
    switching.lock_videos(session, session.scalars(select(ItemRow.video_id).where(*of_run).distinct()).all())
    query = select(ItemRow, Analysis).outerjoin(Analysis, Analysis.id == ItemRow.new_analysis_id)
    query = query.where(*of_run).order_by(ItemRow.id).execution_options(populate_existing=True)
    return list(session.execute(query).all())


def _switch_back(session: Session, items: Sequence[ItemRow]) -> None:
    for ids, current in (
        ([item.new_analysis_id for item in items], False),
        ([item.replaced_analysis_id for item in items], True),
    ):
        for some in in_batches([id for id in ids if id is not None]):
            session.execute(update(Analysis).where(Analysis.id.in_(some)).values(current=current))
    for item in items:
        item.state = "rolled_back"
