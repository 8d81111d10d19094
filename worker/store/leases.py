"""Who may work on a row, until when, and who may write what came of it.

A claim is one UPDATE that takes a row which is queued, or whose lease has run out, counts `fence` up and
sets the lease from the database's clock. Whoever was stopped for longer than its lease finds another fence
there when it comes to write, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from vm.errors import VideoMindError
from worker.columns import Clock, Turn
from worker.errors import INTERNAL_ERROR, LostWorker, is_retryable, retry_delay
from worker.jobs import Lease
from worker.store.sessions import dialect_of
from worker.tables import Analysis, Submission

Job = type[Submission] | type[Analysis]

_FRESH: dict[str, Any] = {"finished_at": None, "error_code": None, "error_message": None}
_ASKED = ("question", "options", "subtitles", "mode", "settings", "fingerprint")
_COLUMNS = {
    Analysis: ("video_id", "followed", *_ASKED),
    Submission: ("key", "uri", "collection", "source", "recorded_at", "callback_url", "force"),
}


def now(session: Session) -> datetime:
    """By the database's clock, which all workers share; an SQLite file is on one machine anyway."""
    if dialect_of(session) == "sqlite":
        return datetime.now(UTC)
    return cast(datetime, session.scalar(select(func.clock_timestamp()))).astimezone(UTC)


def take_turns(session: Session, what: str) -> None:
    """Waits until nobody else does the same in a transaction, as SQLite always does."""
    session.execute(select(Turn(what)))


def claimable(job: Job, most_attempts: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Waiting and due, or left behind by a worker that is gone; and not tried too often."""
    return and_(or_(_due(job), _left(job)), _worth_a_try(job, most_attempts))


def first(job: Job, *which: ColumnElement[bool]) -> Select[int]:
    """The id of what is to be claimed next. A statement with it must be given `most_attempts`.

    What waits and what was left behind are looked up beside each other, each in the order of an index, so
    that it takes as long with a million waiting as with one. What somebody else is at just now is passed
    over.
    """
    one = (
        select(job.priority, job.submitted_at, job.id)
        .where(_worth_a_try(job, bindparam("most_attempts")), *which)
        .order_by(job.priority.desc(), job.submitted_at, job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    both = union_all(*(select(one.where(kind).subquery()) for kind in (_due(job), _left(job)))).cte(
        "next_ones"
    )
    return select(both.c.id).order_by(both.c.priority.desc(), both.c.submitted_at, both.c.id).limit(1)


def _due(job: Job) -> ColumnElement[bool]:
    return and_(job.state == "queued", or_(job.not_before.is_(None), job.not_before <= Clock()))


def _left(job: Job) -> ColumnElement[bool]:
    """Begun by a worker that has let its lease run out."""
    return and_(job.state == "running", job.lease_expires_at < Clock())


def _worth_a_try(job: Job, most_attempts: int | ColumnElement[int]) -> ColumnElement[bool]:
    return and_(job.attempts < most_attempts, job.cancel_requested.is_(False))


def to_take(holder: str, length: timedelta) -> dict[str, object]:
    """What a `taking` statement must be given."""
    return {"holder": holder, "length": length.total_seconds()}


def taking(job: Job) -> ReturningUpdate[Any]:
    """Claims rows and gives their columns, once it is told which."""
    begun: dict[str, Any] = {
        "state": "running",
        "attempts": job.attempts + 1,
        "losses": job.losses + case((job.state == "running", 1), else_=0),
        "fence": job.fence + 1,
        "lease_holder": bindparam("holder"),
        "lease_expires_at": Clock(bindparam("length")),
        "started_at": Clock(),
        "not_before": None,
        **_FRESH,
    }
    anew = {"progress": 0.0, "stage": None, "eta": None} if job is Analysis else {}
    return update(job).values(**begun, **anew).returning(*_columns(job))


def _columns(job: Job) -> Iterable[ColumnElement[Any]]:
    """Of a row that is taken, as the table has them: a URL's secret is not among them."""
    return cast(Table, job.__table__).columns["id", "state", "priority", "attempts", "fence", *_COLUMNS[job]]


def held(job: Job) -> ColumnElement[bool]:
    """True of the row as long as nobody has claimed it later; which one, `by` tells."""
    return and_(job.id == bindparam("held_id"), job.state == "running", job.fence == bindparam("held_fence"))


def by(lease: Lease) -> dict[str, int]:
    """What a statement with `held` must be given."""
    return {"held_id": lease.id, "held_fence": lease.fence}


def in_order(leases: Iterable[Lease]) -> list[Lease]:
    """Whoever changes several rows goes by their ids, so that no two wait for each other for ever."""
    return sorted(leases, key=lambda lease: lease.id)


def renew(session: Session, job: Job, leases: Iterable[Lease], length: timedelta) -> list[Lease]:
    """Those of the leases that are still held, now for so much longer."""
    until = Clock(length.total_seconds())
    return [lease for lease in in_order(leases) if _change(session, job, lease, lease_expires_at=until)]


def ended(job: Job) -> dict[str, Any]:
    """The columns of work that has ended, whatever came of it."""
    return {"finished_at": Clock(), **_free(job)}


def _free(job: Job) -> dict[str, Any]:
    """The columns of work that nobody is at."""
    return {"lease_holder": None, "lease_expires_at": None, **({"eta": None} if job is Analysis else {})}


def end(session: Session, job: Job, lease: Lease, **values: Any) -> bool:
    """Writes the end of the work. False where the lease is no longer held."""
    return _change(session, job, lease, **ended(job), **values)


def end_all(session: Session, job: Job, which: ColumnElement[bool], **values: Any) -> Sequence[int]:
    """Writes the end of all such work, whoever is at it. Gives the ids."""
    session.scalars(select(job.id).where(which).order_by(job.id).with_for_update(of=job)).all()
    statement = (
        update(job)
        .where(which)
        .values(**ended(job), **values)
        .returning(job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()


def ask_to_end(session: Session, job: Job, which: ColumnElement[bool]) -> None:
    """Tells whoever works on it, at the next look, to end it."""
    statement = update(job).where(which).values(cancel_requested=True)
    session.execute(statement.execution_options(synchronize_session=False))


def fail(session: Session, job: Job, lease: Lease, attempts: int, most: int, error: Exception) -> bool:
    """Ends the work as failed; what may pass, and was not tried too often, waits for another try."""
    code, message = described(error)
    told = {"error_code": code, "error_message": message}
    if is_retryable(error) and attempts < most:
        waits = {"not_before": Clock(retry_delay(attempts).total_seconds()), **_let_go(job), **told}
        return _change(session, job, lease, **waits)
    return end(session, job, lease, state="failed", **told)


def give_back(session: Session, job: Job, lease: Lease) -> bool:
    """Hands the work back untried, for somebody else to take."""
    untried = {"attempts": job.attempts - 1, "started_at": None}
    return _change(session, job, lease, **untried, **_let_go(job))


def end_cancelled(session: Session, job: Job, lease: Lease) -> bool:
    """Ends the work as cancelled; it waits again where somebody has asked for it since."""
    return _change(session, job, lease, **_let_go(job))


def _let_go(job: Job) -> dict[str, Any]:
    """The columns of work that nobody is at any more: it waits for the next, unless it is to end."""
    unwanted = job.cancel_requested.is_(True)
    return {
        "state": case((unwanted, "cancelled"), else_="queued"),
        "finished_at": case((unwanted, Clock()), else_=None),
        **_free(job),
    }


def orphan(session: Session, job: Job, holders: str) -> Sequence[int]:
    """Ends the leases of processes that are known to be gone, by what their names begin with. Gives the ids
    of what they worked on."""
    statement = (
        update(job)
        .where(job.state == "running", job.lease_holder.startswith(holders, autoescape=True))
        .values(lease_expires_at=Clock())
        .returning(job.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalars(statement).all()


def holders(session: Session, job: Job) -> list[str]:
    """Who holds leases."""
    query = select(job.lease_holder).where(job.state == "running", job.lease_holder.is_not(None)).distinct()
    return [holder for holder in session.scalars(query) if holder is not None]


def bury(session: Session, job: Job, most_attempts: int) -> Sequence[int]:
    """Ends as failed what was tried too often and has no living worker. Gives the ids."""
    given_up = and_(_at_rest(job), job.attempts >= most_attempts)
    code, message = described(LostWorker(f"the worker was lost at each of {most_attempts} attempts"))
    told = {
        "error_code": func.coalesce(job.error_code, code),
        "error_message": func.coalesce(job.error_message, message),
    }
    return end_all(session, job, given_up, state="failed", **told)


def over(job: Job, most_attempts: int) -> ColumnElement[bool]:
    """What `end_unwanted` and `bury` end."""
    unwanted = and_(_left(job), job.cancel_requested.is_(True))
    return or_(unwanted, and_(_at_rest(job), job.attempts >= most_attempts))


def _at_rest(job: Job) -> ColumnElement[bool]:
    """Nobody works on it."""
    return or_(job.state == "queued", _left(job))


def end_unwanted(session: Session, job: Job) -> Sequence[int]:
    """Ends as cancelled what was left behind after somebody had asked for its end. Gives the ids."""
    unwanted = and_(_left(job), job.cancel_requested.is_(True))
    return end_all(session, job, unwanted, state="cancelled")


def described(error: Exception) -> tuple[str, str]:
    """An error's code and message, as they are stored."""
    if isinstance(error, VideoMindError):
        return error.code, str(error)
    return INTERNAL_ERROR, f"{type(error).__name__}: {error}"


def _change(session: Session, job: Job, lease: Lease, **values: Any) -> bool:
    statement = update(job).where(held(job)).values(values)
    return session.connection().execute(statement, by(lease)).rowcount == 1
