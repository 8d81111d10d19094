"""Submissions: handed in by producers, taken by whoever fetches and registers their videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Select, and_, bindparam, insert, select, true, update
from sqlalchemy.orm import joinedload, selectinload
from sqlalchemy.sql.dml import ReturningUpdate

from worker import rows
from worker.columns import Clock, Columns
from worker.jobs import Accepted, Intake, Lease, Submission
from worker.masking import HIDDEN
from worker.store import leases
from worker.store.listed import as_list, columns_of, listed
from worker.store.sessions import Sessions, adding, dialect_of, found_or_added, in_batches, new, parameters
from worker.tables import RequestRow
from worker.tables import Submission as Row

_THIS_ONE = (
    select(Row.id)
    .where(Row.id == bindparam("of"), leases.claimable(Row, most_attempts=1_000_000))
    .with_for_update(skip_locked=True)
)
_CLAIM = leases.taking(Row).where(Row.id == leases.first(Row).scalar_subquery())
_CLAIM_ONE = leases.taking(Row).where(Row.id == _THIS_ONE.scalar_subquery())
_IS_UNWANTED = select(Row.cancel_requested).where(leases.held(Row))
_ADD_REQUESTS = insert(RequestRow).returning(RequestRow.id, sort_by_parameter_order=True)
_REQUEST = columns_of(RequestRow, *rows.REQUEST_COLUMNS)
_REQUESTS = select(*_REQUEST).where(RequestRow.submission_id == bindparam("of")).order_by(RequestRow.position)


# On PostgreSQL each statement is a way there and back, so that requests come and go with their submissions.
@cache
def _with_requests(claim: ReturningUpdate[Any]) -> Select[Any]:
    """Claims, and gives a row for each request; one without a question where there is none."""
    taken = claim.cte("taken")
    of_it = taken.c.id == RequestRow.submission_id
    return select(taken, *_REQUEST).outerjoin_from(taken, RequestRow, of_it).order_by(RequestRow.position)


def _adding_at_once() -> Select[Any]:
    """Adds a submission, whose values have `new_` before their names, and a list of requests. Gives its id,
    `of`, for each of theirs."""
    added = adding(Row, "postgresql").values(parameters(rows.SUBMISSION_COLUMNS)).cte("added")
    columns = [*columns_of(RequestRow, "position"), *_REQUEST]
    each = listed("requests", columns)
    given = select(added.c.id, *each.columns).join_from(added, each, true())
    into = ["submission_id", *(column.name for column in columns)]
    add = insert(RequestRow).from_select(into, given).returning(RequestRow.id, RequestRow.position)
    asked = add.cte("asked")
    ids = select(added.c.id.label("of"), asked.c.id).outerjoin_from(added, asked, true())
    return ids.order_by(asked.c.position)


_ADD_AT_ONCE = _adding_at_once()


class Submissions:
    """The table `submissions`, and the requests in it."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, submission: Submission) -> Accepted:
        """Keeps it to be worked on; one that is known by its key stays as it is."""
        return self._added(submission) or self.known([submission.key])[submission.key]

    def _added(self, submission: Submission) -> Accepted | None:
        columns, requests = rows.submission_columns(submission), rows.request_rows(submission)
        is_open = (columns["uri"], columns["callback_url"]) == (submission.uri, submission.callback_url)
        if self._sessions.is_postgresql and is_open:
            found = self._sessions.execute(_ADD_AT_ONCE, {**new(columns), "requests": as_list(requests)})
            return Accepted(found[0].of, tuple(row.id for row in found if row.id)) if found else None
        with self._sessions.begin() as session:
            id = session.connection().scalar(adding(Row, dialect_of(session)), columns)
            if id is None:
                return None
            if not is_open:
                row = session.get_one(Row, id)
                row.uri, row.callback_url = submission.uri, submission.callback_url  # with their secrets
            of_it = [{"submission_id": id, **request} for request in requests]
            ids = session.connection().scalars(_ADD_REQUESTS, of_it).all() if of_it else ()
            return Accepted(id, tuple(ids))

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
        at_once = self._sessions.is_postgresql
        found = self._sessions.execute(_with_requests(claim) if at_once else claim, given)
        if not found:
            return None
        row = found[0]
        requests = found if at_once else self._sessions.execute(_REQUESTS, {"of": row.id})
        asked = [request for request in requests if request.question is not None]
        return Intake(Lease(row.id, row.fence), row.attempts, rows.submission_of(self._whole(row), asked))

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


def _accepted(row: Row) -> Accepted:
    return Accepted(row.id, tuple(request.id for request in row.requests))
