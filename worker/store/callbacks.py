"""Who is still to be told that a submission has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from worker.errors import retry_delay
from worker.store import leases
from worker.store.sessions import Sessions
from worker.tables import Analysis, RequestRow, Submission

_ENDED = ("succeeded", "failed", "cancelled")
MOST_CALLS = 8
"""Tries before a callback is given up; with growing delays, about an hour."""


@dataclass(frozen=True)
class Call:
    """One callback to make: where to, and what to say."""

    submission_id: int
    url: str
    attempts: int
    body: dict[str, Any]


class Callbacks:
    """The callback columns of `submissions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def take_due(self, patience: timedelta) -> Call | None:
        """The next callback to make: nobody else gets it within `patience`. At least once, perhaps twice."""
        with self._sessions.begin() as session:
            moment = leases.now(session)
            due = select(Submission).where(_untold(moment)).order_by(Submission.id).limit(1)
            row = session.scalars(due.with_for_update(skip_locked=True)).one_or_none()
            if row is None:
                return None
            row.callback_attempts += 1
            row.callback_at = moment + patience
            return Call(row.id, str(row.callback_url), row.callback_attempts, _body(session, row))

    def delivered(self, call: Call) -> None:
        """It was heard; nobody calls again."""
        with self._sessions.begin() as session:
            told = {"callback_attempts": MOST_CALLS, "callback_error": None}
            session.execute(update(Submission).where(Submission.id == call.submission_id).values(told))

    def undelivered(self, call: Call, reason: str) -> None:
        """It was not heard; somebody calls again later, or nobody after the last try.

        Nothing is written where somebody else has called since.
        """
        with self._sessions.begin() as session:
            due = leases.now(session) + retry_delay(call.attempts)
            ours = Submission.id == call.submission_id, Submission.callback_attempts == call.attempts
            session.execute(update(Submission).where(*ours).values(callback_at=due, callback_error=reason))


def _untold(moment: datetime) -> ColumnElement[bool]:
    """True of submissions that have ended with all they ask, and whose next call is due."""
    unfinished = exists().where(
        RequestRow.submission_id == Submission.id,
        RequestRow.analysis_id == Analysis.id,
        Analysis.state.not_in(_ENDED),
    )
    return and_(
        Submission.callback_url.is_not(None),
        Submission.state.in_(_ENDED),
        Submission.callback_attempts < MOST_CALLS,
        or_(Submission.callback_at.is_(None), Submission.callback_at <= moment),
        ~unfinished,
    )


def _body(session: Session, row: Submission) -> dict[str, Any]:
    asked = (
        select(RequestRow.id, Analysis.id, Analysis.state)
        .join(Analysis, Analysis.id == RequestRow.analysis_id)
        .where(RequestRow.submission_id == row.id)
        .order_by(RequestRow.position)
    )
    return {
        "version": 1,
        "submission_id": row.id,
        "key": row.key,
        "state": row.state,
        "error": row.error_code and {"code": row.error_code, "message": row.error_message},
        "analyses": [
            {"request_id": request_id, "analysis_id": analysis_id, "state": state}
            for request_id, analysis_id, state in session.execute(asked)
        ],
    }
