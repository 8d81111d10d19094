"""Who may work on a row, until when, and who may write what came of it.

A claim is one UPDATE that takes a row which is queued, or whose lease has run out, counts `fence` up and
sets the lease from the database's clock. Whoever was stopped for longer than its lease finds another fence
there when it comes to write, and writes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    DateTime,
    and_,
    case,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.orm import Session

from vm.errors import VideoMindError
from worker.columns import UtcDateTime
from worker.errors import INTERNAL_ERROR, LostWorker, is_retryable, retry_delay
from worker.jobs import Lease
from worker.tables import Analysis, Submission

Table = TypeVar("Table", type[Submission], type[Analysis])
Row = TypeVar("Row", Submission, Analysis)

_FRESH: dict[str, Any] = {"finished_at": None, "error_code": None, "error_message": None}
_FREE: dict[str, Any] = {"lease_holder": None, "lease_expires_at": None}
_LONGEST_TURN = 15.0  # seconds; a claim takes some hundredths of one
_TURN_PAUSE = 0.01


def now(session: Session) -> datetime:
    """By the database's clock, which all workers share; an SQLite file is on one machine anyway."""
    if session.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    return cast(datetime, session.scalar(select(func.clock_timestamp()))).astimezone(UTC)


def clock(session: Session, later: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The same, or so much later, as a part of a statement: nobody need ask for it first."""
    if session.get_bind().dialect.name == "sqlite":
        return literal(datetime.now(UTC) + later, UtcDateTime())
    moment: ColumnElement[datetime] = func.statement_timestamp(type_=DateTime(timezone=True))
    return moment + literal(later) if later else moment


def take_turns(session: Session, what: str) -> None:
    """Waits until nobody else does the same in a transaction, as SQLite always does.

    But not for ever: the machine that has its turn may be gone.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    attempt = text("SELECT pg_try_advisory_xact_lock(hashtext(:what))")
    deadline = time.monotonic() + _LONGEST_TURN
    while not session.scalar(attempt, {"what": what}) and time.monotonic() < deadline:
        time.sleep(_TURN_PAUSE)


def claimable(job: Table, moment: ColumnElement[datetime], most_attempts: int) -> ColumnElement[bool]:
    """Waiting and due, or left behind by a worker that is gone; and not tried too often."""
    return and_(or_(_due(job, moment), _left(job, moment)), _worth_a_try(job, most_attempts))


def next_one(session: Session, job: Table, most_attempts: int, *which: ColumnElement[bool]) -> int | None:
    """The id of what is to be claimed next: of the highest priority, and of these the oldest.

    What waits and what was left behind are looked up beside each other, each in the order of an index,
    so that it takes as long with a million waiting as with one. What somebody else is at just now is
    passed over.
    """
    moment = clock(session)
    first = (
        select(job.priority, job.submitted_at, job.id)
        .where(_worth_a_try(job, most_attempts), *which)
        .order_by(job.priority.desc(), job.submitted_at, job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    each = [first.where(kind).subquery() for kind in (_due(job, moment), _left(job, moment))]
    found = session.execute(union_all(*map(select, each))).all()
    best = min(found, key=lambda row: (-row[0], *row[1:]), default=None)
    return None if best is None else int(best[2])


def _due(job: Table, moment: ColumnElement[datetime]) -> ColumnElement[bool]:
    return and_(job.state == "queued", or_(job.not_before.is_(None), job.not_before <= moment))


def _left(job: Table, moment: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Begun by a worker that has let its lease run out."""
    return and_(job.state == "running", job.lease_expires_at < moment)


def _worth_a_try(job: Table, most_attempts: int) -> ColumnElement[bool]:
    return and_(job.attempts < most_attempts, job.cancel_requested.is_(False))


def take(
    session: Session,
    job: type[Row],
    which: ColumnElement[bool],
    holder: str,
    length: timedelta,
    **values: Any,
) -> Sequence[Row]:
    """Claims the rows, and gives them. Whoever calls has locked them, or says in `which` what they must
    still be like."""
    statement = (
        update(job)
        .where(which)
        .values(
            state="running",
            attempts=job.attempts + 1,
            losses=job.losses + case((job.state == "running", 1), else_=0),
            fence=job.fence + 1,
            lease_holder=holder,
            lease_expires_at=clock(session, length),
            started_at=clock(session),
            not_before=None,
            **_FRESH,
            **values,
        )
        .returning(job)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()


def held(job: Table, lease: Lease) -> ColumnElement[bool]:
    """True of the row as long as nobody has claimed it later."""
    return and_(job.id == lease.id, job.state == "running", job.fence == lease.fence)


def in_order(leases: Iterable[Lease]) -> list[Lease]:
    """Whoever changes several rows goes by their ids, so that no two wait for each other for ever."""
    return sorted(leases, key=lambda lease: lease.id)


def renew(session: Session, job: Table, leases: Iterable[Lease], length: timedelta) -> list[Lease]:
    """Those of the leases that are still held, now for so much longer."""
    until = clock(session, length)
    return [lease for lease in in_order(leases) if _change(session, job, lease, lease_expires_at=until)]


def end(session: Session, job: type[Row], lease: Lease, **values: Any) -> Row | None:
    """Writes the end of the work, and gives its row; None where the lease is no longer held."""
    ended = update(job).where(held(job, lease)).values(finished_at=clock(session), **_FREE, **values)
    return session.scalar(ended.returning(job).execution_options(synchronize_session=False))


def end_all(session: Session, job: Table, which: ColumnElement[bool], **values: Any) -> Sequence[int]:
    """Writes the end of all such work, whoever is at it. Gives the ids."""
    session.scalars(select(job.id).where(which).order_by(job.id).with_for_update(of=job)).all()
    statement = (
        update(job)
        .where(which)
        .values(finished_at=clock(session), **_FREE, **values)
        .returning(job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()


def ask_to_end(session: Session, job: Table, which: ColumnElement[bool]) -> None:
    """Tells whoever works on it, at the next look, to end it."""
    statement = update(job).where(which).values(cancel_requested=True)
    session.execute(statement.execution_options(synchronize_session=False))


def fail(session: Session, job: type[Row], lease: Lease, attempts: int, most: int, error: Exception) -> bool:
    """Ends the work as failed; what may pass, and was not tried too often, waits for another try."""
    code, message = described(error)
    told = {"error_code": code, "error_message": message}
    if is_retryable(error) and attempts < most:
        waits = {"not_before": clock(session, retry_delay(attempts)), **_let_go(job, clock(session)), **told}
        return _change(session, job, lease, **waits)
    return end(session, job, lease, state="failed", **told) is not None


def give_back(session: Session, job: Table, lease: Lease) -> bool:
    """Hands the work back untried, for somebody else to take."""
    untried = {"attempts": job.attempts - 1, "started_at": None}
    return _change(session, job, lease, **untried, **_let_go(job, clock(session)))


def end_cancelled(session: Session, job: Table, lease: Lease) -> bool:
    """Ends the work as cancelled; it waits again where somebody has asked for it since."""
    return _change(session, job, lease, **_let_go(job, clock(session)))


def _let_go(job: Table, moment: ColumnElement[datetime]) -> dict[str, Any]:
    """The columns of work that nobody is at any more: it waits for the next, unless it is to end."""
    unwanted = job.cancel_requested.is_(True)
    return {
        "state": case((unwanted, "cancelled"), else_="queued"),
        "finished_at": case((unwanted, moment), else_=None),
        **_FREE,
    }


def orphan(session: Session, job: Table, holders: str) -> Sequence[int]:
    """Ends the leases of processes that are known to be gone, by what their names begin with. Gives the ids
    of what they worked on."""
    statement = (
        update(job)
        .where(job.state == "running", job.lease_holder.startswith(holders, autoescape=True))
        .values(lease_expires_at=clock(session))
        .returning(job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()


def holders(session: Session, job: Table) -> list[str]:
    """Who holds leases."""
    query = select(job.lease_holder).where(job.state == "running", job.lease_holder.is_not(None)).distinct()
    return [holder for holder in session.scalars(query) if holder is not None]


def bury(session: Session, job: Table, most_attempts: int) -> Sequence[int]:
    """Ends as failed what was tried too often and has no living worker. Gives the ids."""
    given_up = and_(_at_rest(job, clock(session)), job.attempts >= most_attempts)
    code, message = described(LostWorker(f"the worker was lost at each of {most_attempts} attempts"))
    told = {
        "error_code": func.coalesce(job.error_code, code),
        "error_message": func.coalesce(job.error_message, message),
    }
    return end_all(session, job, given_up, state="failed", **told)


def over(job: Table, moment: ColumnElement[datetime], most_attempts: int) -> ColumnElement[bool]:
    """What `end_unwanted` and `bury` end."""
    unwanted = and_(_left(job, moment), job.cancel_requested.is_(True))
    return or_(unwanted, and_(_at_rest(job, moment), job.attempts >= most_attempts))


def _at_rest(job: Table, moment: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Nobody works on it."""
    return or_(job.state == "queued", _left(job, moment))


def end_unwanted(session: Session, job: Table) -> Sequence[int]:
    """Ends as cancelled what was left behind after somebody had asked for its end. Gives the ids."""
    unwanted = and_(_left(job, clock(session)), job.cancel_requested.is_(True))
    return end_all(session, job, unwanted, state="cancelled")


def described(error: Exception) -> tuple[str, str]:
    """An error's code and message, as they are stored."""
    if isinstance(error, VideoMindError):
        return error.code, str(error)
    return INTERNAL_ERROR, f"{type(error).__name__}: {error}"


def _change(session: Session, job: Table, lease: Lease, **values: Any) -> bool:
    statement = update(job).where(held(job, lease)).values(values)
    statement = statement.execution_options(synchronize_session=False)
    return cast(CursorResult[Any], session.execute(statement)).rowcount == 1
