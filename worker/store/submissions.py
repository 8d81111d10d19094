"""Submissions: handed in by producers, taken by whoever fetches and registers their videos."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from worker import rows
from worker.jobs import Accepted, Intake, Lease, Submission
from worker.store import leases
from worker.store.sessions import Sessions, found_or_added, in_batches
from worker.tables import RequestRow
from worker.tables import Submission as Row


class Submissions:
    """The table `submissions`, and the requests in it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, submission: Submission) -> Accepted:
        """Keeps it to be worked on; one that is known by its key stays as it is."""
        try:  # most are new, so nobody looks first
            with self._sessions.begin() as session:
                row = _row(session, submission)
                session.add(row)
                session.flush()
                return _accepted(row)
        except IntegrityError:
            if known := self.known([submission.key]):
                return known[submission.key]
            raise

    def known(self, keys: Sequence[str]) -> dict[str, Accepted]:
        """What was handed in before under any of these keys, by key."""
        found: dict[str, Accepted] = {}
        for some in in_batches(keys):
            query = select(Row).where(Row.key.in_(some)).options(selectinload(Row.requests))
            with self._sessions.reading() as session:
                found.update((row.key, _accepted(row)) for row in session.scalars(query))
        return found

    def reject(self, key: str, arguments: Any, error: Exception) -> None:
        """Keeps what could not be understood, and why."""
        code, message = leases.described(error)
        with self._sessions.begin() as session:
            moment = leases.now(session)
            ended = {"state": "failed", "error_code": code, "error_message": message, "finished_at": moment}
            row = Row(
                key=key,
                uri="",
                arguments={"received": arguments},
                force=False,
                callback_attempts=0,
                **{**rows.new_job(moment), **ended},
            )
            found_or_added(session, select(Row).filter_by(key=key), row)

    def claim(self, holder: str, length: timedelta, most_attempts: int) -> Intake | None:
        """The next one to fetch: of the highest priority, and of these the oldest."""
        with self._sessions.begin() as session:
            first = leases.next_one(session, Row, most_attempts)
            return None if first is None else self._taken(session, Row.id == first, holder, length)

    def claim_one(self, submission_id: int, holder: str, length: timedelta) -> Intake | None:
        """This one, if nobody else has it."""
        with self._sessions.begin() as session:
            free = leases.claimable(Row, leases.clock(session), most_attempts=1_000_000)
            return self._taken(session, and_(Row.id == submission_id, free), holder, length)

    def _taken(
        self, session: Session, which: ColumnElement[bool], holder: str, length: timedelta
    ) -> Intake | None:
        for row in leases.take(session, Row, which, holder, length):
            return Intake(Lease(row.id, row.fence), row.attempts, rows.submission_of(row))
        return None

    def renew(self, lease: Lease, length: timedelta) -> bool:
        """False where it is no longer ours."""
        with self._sessions.begin() as session:
            return bool(leases.renew(session, Row, [lease], length))

    def is_cancelled(self, lease: Lease) -> bool:
        """Whether somebody asked for its end."""
        with self._sessions.begin() as session:
            return bool(session.scalar(select(Row.cancel_requested).where(leases.held(Row, lease))))

    def end_cancelled(self, intake: Intake) -> bool:
        """Ends it as cancelled. False where it is no longer ours."""
        with self._sessions.begin() as session:
            return leases.end_cancelled(session, Row, intake.lease)

    def fail(self, intake: Intake, error: Exception, most_attempts: int) -> bool:
        """Ends it as failed, or has it tried again later. False where it is no longer ours."""
        with self._sessions.begin() as session:
            return leases.fail(session, Row, intake.lease, intake.attempts, most_attempts, error)

    def give_back(self, intake: Intake) -> None:
        """For somebody else to take."""
        with self._sessions.begin() as session:
            leases.give_back(session, Row, intake.lease)

    def orphan(self, holders: str) -> None:
        """Ends the leases of processes that are gone."""
        with self._sessions.begin() as session:
            leases.orphan(session, Row, holders)

    def holders(self) -> list[str]:
        """Who holds leases."""
        with self._sessions.begin() as session:
            return leases.holders(session, Row)

    def bury(self, most_attempts: int) -> Sequence[int]:
        """Ends as failed what was tried too often and has no living worker. Gives the ids."""
        with self._sessions.begin() as session:
            leases.end_unwanted(session, Row)
            return leases.bury(session, Row, most_attempts)

    def analyses(self, submission_id: int) -> list[int]:
        """The analyses that answer its requests, in their order, as far as they are known."""
        query = select(RequestRow.analysis_id).where(
            RequestRow.submission_id == submission_id, RequestRow.analysis_id.is_not(None)
        )
        with self._sessions.begin() as session:
            return [id for id in session.scalars(query.order_by(RequestRow.position)) if id is not None]

    def cancel(self, submission_ids: Sequence[int]) -> None:
        """What is not yet fetched need not be; what is being fetched ends at the next look.

        What has been registered is marked as no longer waiting for its analyses.
        """
        with self._sessions.begin() as session:
            chosen = Row.id.in_(submission_ids)
            leases.end_all(session, Row, and_(chosen, Row.state == "queued"), state="cancelled")
            leases.ask_to_end(session, Row, and_(chosen, Row.state.in_(("running", "succeeded"))))

    def retry(self, submission_ids: Sequence[int]) -> int:
        """Has what failed or was cancelled tried again from the start, and told again when it has ended.

        What has been registered waits for its analyses again. How many are tried again.
        """
        count = 0
        for some in in_batches(submission_ids):
            ended = Row.id.in_(some), Row.state.in_(("failed", "cancelled")), Row.uri != ""
            with self._sessions.begin() as session:
                again = rows.asked_anew(leases.clock(session))
                untold = {"callback_attempts": 0, "callback_at": None, "callback_error": None}
                statement = update(Row).where(*ended).values(**again, **untold)
                statement = statement.execution_options(synchronize_session=False)
                count += len(session.scalars(statement.returning(Row.id)).all())
                registered = update(Row).where(Row.id.in_(some), Row.state == "succeeded")
                session.execute(registered.values(cancel_requested=False))
        return count


def _row(session: Session, submission: Submission) -> Row:
    requests = [
        RequestRow(position=place, **rows.request_columns(request))
        for place, request in enumerate(submission.requests, start=1)
    ]
    return Row(
        key=submission.key,
        uri=submission.uri,
        collection=submission.collection,
        source=submission.source,
        recorded_at=submission.recorded_at,
        force=submission.force,
        callback_url=submission.callback_url,
        callback_attempts=0,
        requests=requests,
        **rows.new_job(leases.clock(session), submission.priority),
    )


def _accepted(row: Row) -> Accepted:
    return Accepted(row.id, tuple(request.id for request in row.requests))
