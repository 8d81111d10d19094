"""Schedules, and each of their slots once, however many look."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from worker.archive_tables import RunRow, ScheduleRow
from worker.errors import InvalidRule
from worker.reindexing import Limits, Rule
from worker.scheduling import Planned, Schedule
from worker.store import leases
from worker.store.reindex import planned
from worker.store.sessions import Sessions
from worker.store.switching import finish_run_if_done
from worker.store.usable import usable


class Schedules:
    """The table `schedules`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, schedule: Schedule) -> int:
        """Keeps a schedule, or says anew what one of this name does; its slots count from now on."""
        with self._sessions.begin() as session:
            moment = leases.now(session)
            row = session.scalar(select(ScheduleRow).filter_by(name=schedule.name))
            if row is None:
                row = ScheduleRow(name=schedule.name, created_at=moment)
                session.add(row)
            row.cron, row.time_zone, row.catch_up = schedule.cron, schedule.time_zone, schedule.catch_up
            row.rule, row.limits = schedule.rule.to_stored(), schedule.limits.to_stored()
            row.enabled, row.last_slot = True, moment
            session.flush()
            return row.id

    def all(self) -> list[Planned]:
        """In the order of their names.

        Raises:
            InvalidRule: one of them is of no use any more; it says which.
        """
        with self._sessions.begin() as session:
            return [_told(row) for row in session.scalars(select(ScheduleRow).order_by(ScheduleRow.name))]

    def enable(self, name: str, enabled: bool) -> None:
        """Switches it on or off; slots that pass while it is off are never made up for.

        Raises:
            InvalidRule: there is no such schedule.
        """
        with self._sessions.begin() as session:
            values = {"enabled": enabled, "last_slot": leases.now(session)}
            changed = update(ScheduleRow).where(ScheduleRow.name == name).values(values)
            _check(name, session.scalars(changed.returning(ScheduleRow.id)).all())

    def remove(self, name: str) -> None:
        """Forgets it; its runs stay.

        Raises:
            InvalidRule: there is no such schedule.
        """
        with self._sessions.begin() as session:
            gone = delete(ScheduleRow).where(ScheduleRow.name == name).returning(ScheduleRow.id)
            _check(name, session.scalars(gone).all())

    def any_due(self) -> bool:
        """Whether a slot has come that nobody has looked at."""
        with self._sessions.begin() as session:
            moment = leases.now(session)
            rows = session.scalars(select(ScheduleRow).where(ScheduleRow.enabled)).all()
            return any(told.schedule.due(told.last_slot, moment)[1] for _, told in usable(rows, _told))

    def start_due(self, fingerprint: str) -> list[int]:
        """Starts a run for each schedule whose slot has come, none for a slot that another beat has taken.

        Where a schedule's last run still has something to do, that goes on instead. Gives the runs' ids.
        """
        with self._sessions.begin() as session:
            leases.take_turns(session, "schedules")
            rows = session.scalars(select(ScheduleRow).where(ScheduleRow.enabled).order_by(ScheduleRow.id))
            kept = usable(rows.all(), _told)
            found = [_start(session, row, told.schedule, fingerprint) for row, told in kept]
            return [run_id for run_id in found if run_id is not None]


def _start(session: Session, row: ScheduleRow, schedule: Schedule, fingerprint: str) -> int | None:
    moment = leases.now(session)
    slot, over = schedule.due(row.last_slot, moment)
    if over is None:
        return None
    # Whoever has read the same slot before another moved on finds it taken.
    taken = update(ScheduleRow).where(ScheduleRow.id == row.id, ScheduleRow.last_slot == row.last_slot)
    if not session.scalars(taken.values(last_slot=over).returning(ScheduleRow.id)).all():
        return None
    busy = select(RunRow.id).where(RunRow.schedule_id == row.id, RunRow.state.in_(("running", "paused")))
    if slot is None or session.scalar(busy.limit(1)) is not None:
        return None
    run_id, _ = planned(session, schedule.rule, schedule.limits, fingerprint)
    run = session.get_one(RunRow, run_id)
    run.schedule_id, run.slot, run.state, run.started_at = row.id, slot, "running", moment
    session.flush()
    finish_run_if_done(session, run_id)
    return run_id


def _told(row: ScheduleRow) -> Planned:
    """Raises InvalidRule where what was kept is of no use any more, as when a time zone was given up."""
    try:
        rule, limits = Rule.from_stored(row.rule), Limits.from_stored(row.limits)
        schedule = Schedule(row.name, row.cron, rule, limits, row.time_zone, row.catch_up)
    except InvalidRule as error:
        raise InvalidRule(f"schedule {row.name!r}: {error}. Add it anew, or remove it") from error
    return Planned(row.id, schedule, row.enabled, row.last_slot, row.created_at)


def _check(name: str, ids: object) -> None:
    if not ids:
        raise InvalidRule(f"there is no schedule {name!r}: `videomind schedule list` names them")
