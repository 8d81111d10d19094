"""Submissions: handed in by producers, taken by whoever fetches and registers their videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, bindparam, insert, select, update
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.sql.dml import ReturningUpdate

from worker import rows
from worker.columns import Clock, Columns
from worker.jobs import Accepted, Intake, Lease, Submission
from worker.masking import HIDDEN, masked
from worker.store import leases
from worker.store.sessions import Sessions, adding, dialect_of, found_or_added, in_batches
from worker.tables import RequestRow
from worker.tables import Submission as Row

_FIRST = leases.first(Row).scalar_subquery()
_THIS_ONE = (
    select(Row.id)
    .where(Row.id == bindparam("of"), leases.claimable(Row, most_attempts=1_000_000))
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
_CLAIM = leases.taking(Row).where(Row.id == _FIRST)
_CLAIM_ONE = leases.taking(Row).where(Row.id == _THIS_ONE)
_IS_UNWANTED = select(Row.cancel_requested).where(leases.held(Row))
_ADD_REQUESTS = insert(RequestRow).returning(RequestRow.id, sort_by_parameter_order=True)
_REQUESTS = (
    select(RequestRow.__table__)
    .where(RequestRow.submission_id == bindparam("of"))
    .order_by(RequestRow.position)
)


class Submissions:
    """The table `submissions`, and the requests in it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, submission: Submission) -> Accepted:
        """Keeps it to be worked on; one that is known by its key stays as it is."""
        with self._sessions.begin() as session:
            if (accepted := _added(session, submission)) is not None:
                return accepted
        return self.known([submission.key])[submission.key]

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
        return self._taken(_CLAIM, {"most_attempts": most_attempts, **leases.to_take(holder, length)})

    def claim_one(self, submission_id: int, holder: str, length: timedelta) -> Intake | None:
        """This one, if nobody else has it."""
        return self._taken(_CLAIM_ONE, {"of": submission_id, **leases.to_take(holder, length)})

    def _taken(self, claim: ReturningUpdate[Any], given: Mapping[str, object]) -> Intake | None:
        for row in self._sessions.execute(claim, given):
            requests = self._sessions.execute(_REQUESTS, {"of": row.id})
            submission = rows.submission_of(self._whole(row), requests)
            return Intake(Lease(row.id, row.fence), row.attempts, submission)
        return None

    def _whole(self, row: Columns) -> Columns | Row:
        """With the secrets of its URLs, if they have any."""
        if HIDDEN not in row.uri and HIDDEN not in (row.callback_url or ""):
            return row
        with self._sessions.begin() as session:
            whole = session.get_one(Row, row.id, options=[joinedload(Row.secrets)])
            session.expunge(whole)
            return whole

    def renew(self, lease: Lease, length: timedelta) -> bool:
        """False where it is no longer ours."""
        with self._sessions.begin() as session:
            return bool(leases.renew(session, Row, [lease], length))

    def is_cancelled(self, lease: Lease) -> bool:
        """Whether somebody asked for its end."""
        with self._sessions.begin() as session:
            return bool(session.connection().scalar(_IS_UNWANTED, leases.by(lease)))

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
                again = rows.asked_anew(Clock())
                untold = {"callback_attempts": 0, "callback_at": None, "callback_error": None}
                statement = update(Row).where(*ended).values(**again, **untold)
                statement = statement.execution_options(synchronize_session=False)
                count += len(session.scalars(statement.returning(Row.id)).all())
                registered = update(Row).where(Row.id.in_(some), Row.state == "succeeded")
                session.execute(registered.values(cancel_requested=False))
        return count


def _added(session: Session, submission: Submission) -> Accepted | None:
    shown = {
        "uri": masked(submission.uri),
        "callback_url": submission.callback_url and masked(submission.callback_url),
    }
    columns = {
        "key": submission.key,
        "collection": submission.collection,
        "source": submission.source,
        "recorded_at": submission.recorded_at,
        "force": submission.force,
        "callback_attempts": 0,
        **shown,
        **rows.untouched(submission.priority),
    }
    new = session.connection().scalar(adding(Row, dialect_of(session)), columns)
    if new is None:
        return None
    if shown != {"uri": submission.uri, "callback_url": submission.callback_url}:
        row = session.get_one(Row, new)
        row.uri, row.callback_url = submission.uri, submission.callback_url  # with their secrets
    requests = [
        {"submission_id": new, "position": place, "analysis_id": None, **rows.request_columns(request)}
        for place, request in enumerate(submission.requests, start=1)
    ]
    ids = session.connection().scalars(_ADD_REQUESTS, requests).all() if requests else ()
    return Accepted(new, tuple(ids))


def _accepted(row: Row) -> Accepted:
    return Accepted(row.id, tuple(request.id for request in row.requests))
