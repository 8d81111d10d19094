"""Hits: looked at, and those that somebody is still to be told of."""

from __future__ import annotations

from collections.abc import Collection as Ids
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import joinedload

from vm.moments import Span
from worker.archive_tables import HitRow, StandingRow
from worker.errors import retry_delay
from worker.standing import DeliveryState, Hit
from worker.store import leases
from worker.store.sessions import Sessions
from worker.tables import Video

MOST_DELIVERIES = 10
"""Tries before a delivery is given up; with growing delays, more than an hour."""


@dataclass(frozen=True)
class Delivery:
    """One hit to be told, and where to. `attempts` counts this one."""

    hit: Hit
    url: str
    attempts: int


class Hits:
    """The table `hits`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def latest(
        self,
        standing_id: int | None = None,
        since: datetime | None = None,
        state: DeliveryState | None = None,
        after: int = 0,
        most: int = 1000,
    ) -> list[Hit]:
        """The last ones, in the order in which they were found.

        Args:
            since: found then or later.
            after: with higher ids than this.
        """
        query = _whole().where(HitRow.id > after).order_by(HitRow.id.desc()).limit(most)
        if standing_id is not None:
            query = query.where(HitRow.standing_id == standing_id)
        if since is not None:
            query = query.where(HitRow.found_at >= since)
        if state is not None:
            query = query.where(HitRow.delivery_state == state)
        with self._sessions.reading() as session:
            return [_hit(row) for row in reversed(session.scalars(query).all())]

    def count_dead(self) -> int:
        """How many were given up, and still are."""
        dead = select(func.count()).where(HitRow.delivery_state == "dead")
        with self._sessions.reading() as session:
            return session.scalar(dead) or 0

    def take_due(self, patience: timedelta, but: Ids[int] = ()) -> Delivery | None:
        """The next delivery to make: nobody else gets it within `patience`. At least once, perhaps twice.

        Args:
            but: the standing questions whose hits are left for later.
        """
        with self._sessions.begin() as session:
            moment = leases.now(session)
            due = (
                select(HitRow.id)
                .join(StandingRow)
                .where(
                    HitRow.delivery_state == "pending",
                    HitRow.deliver_at <= moment,
                    HitRow.standing_id.not_in(but),
                    StandingRow.webhook_url.is_not(None),
                )
                .order_by(HitRow.deliver_at, HitRow.id)
                .limit(1)
            )
            chosen = session.scalar(due.with_for_update(of=HitRow, skip_locked=True))
            if chosen is None:
                return None
            row = session.scalars(_whole().where(HitRow.id == chosen)).one()
            row.delivery_attempts += 1
            row.deliver_at = moment + patience
            return Delivery(_hit(row), str(row.standing.webhook_url), row.delivery_attempts)

    def delivered(self, delivery: Delivery) -> None:
        """It was heard; nobody tells it again."""
        with self._sessions.begin() as session:
            heard = {"delivery_state": "delivered", "delivered_at": leases.now(session)}
            told = {**heard, "deliver_at": None, "delivery_error": None}
            session.execute(update(HitRow).where(HitRow.id == delivery.hit.id).values(told))

    def undelivered(self, delivery: Delivery, reason: str) -> None:
        """It was not heard; somebody tells it again later, or nobody after the last try.

        Nothing is written where somebody else has told it since.
        """
        with self._sessions.begin() as session:
            due = leases.now(session) + retry_delay(delivery.attempts)
            given_up = {"delivery_state": "dead", "deliver_at": None}
            then = given_up if delivery.attempts >= MOST_DELIVERIES else {"deliver_at": due}
            ours = (
                HitRow.id == delivery.hit.id,
                HitRow.delivery_state == "pending",
                HitRow.delivery_attempts == delivery.attempts,
            )
            session.execute(update(HitRow).where(*ours).values(delivery_error=reason, **then))

    def retry(self, ids: Sequence[int] | None = None) -> int:
        """Has what was given up delivered after all: of these, or all. How many."""
        with self._sessions.begin() as session:
            again = update(HitRow).where(HitRow.delivery_state == "dead")
            if ids is not None:
                again = again.where(HitRow.id.in_(ids))
            fresh = {"delivery_state": "pending", "delivery_attempts": 0, "deliver_at": leases.now(session)}
            return len(session.scalars(again.values(fresh).returning(HitRow.id)).all())


def _whole() -> Select[HitRow]:
    """Hits with all that is told of them."""
    standing = joinedload(HitRow.standing)
    return select(HitRow).options(
        standing.joinedload(StandingRow.collection), joinedload(HitRow.video).joinedload(Video.source)
    )


def _hit(row: HitRow) -> Hit:
    return Hit(
        id=row.id,
        event_id=row.event_id,
        standing_id=row.standing_id,
        question=row.standing.question,
        collection=row.standing.collection.name,
        source=row.video.source.name if row.video.source else None,
        video_id=row.video_id,
        uri=row.video.shown_uri,
        span=Span(row.start_seconds, row.end_seconds),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        score=row.score,
        answer=row.answer,
        found_at=row.found_at,
        delivery_state=row.delivery_state,
        attempts=row.delivery_attempts,
        delivered_at=row.delivered_at,
        error=row.delivery_error,
    )
