"""Forgets old generations, when somebody says so and only as far as a rule allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from worker.archive_tables import ItemRow
from worker.errors import InvalidRule
from worker.reindexing import LONGEST_DAYS
from worker.store import leases, switching
from worker.store.sessions import Sessions
from worker.tables import Analysis, RequestRow

_BATCH = 1000


@dataclass(frozen=True)
class Retention:
    """What is kept beside what readers see: so many earlier answers of each question, and all that were
    replaced not longer ago than `days`.

    Raises:
        InvalidRule: a number below 0, or days beyond the calendar.
    """

    keep: int = 1
    days: float = 30.0

    def __post_init__(self) -> None:
        if self.keep < 0 or not 0 <= self.days <= LONGEST_DAYS:
            raise InvalidRule(
                f"give numbers from 0 on: earlier answers, and days, of which {LONGEST_DAYS} at most"
            )


class Pruning:
    """Earlier answers, on their way out."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def count(self, retention: Retention) -> int:
        """How many analyses the rule does not keep."""
        with self._sessions.begin() as session:
            found = _superfluous(session, retention).subquery()
            return session.scalar(select(func.count()).select_from(found)) or 0

    def prune(self, retention: Retention) -> int:
        """Deletes a batch of what the rule does not keep. How many; 0 when all is done."""
        with self._sessions.begin() as session:
            ids = session.scalars(_superfluous(session, retention).limit(_BATCH)).all()
            if ids:
                switching.lock_videos_of(session, Analysis.id.in_(ids))
                _forget(session, ids)
            return len(ids)


def _superfluous(session: Session, retention: Retention) -> Select[int]:
    """Ids of answers that were replaced: never one that readers see, nor any that nothing has replaced."""
    place = func.row_number().over(
        partition_by=(Analysis.video_id, Analysis.asked_key),
        order_by=(Analysis.finished_at.desc(), Analysis.id.desc()),
    )
    earlier = (
        select(
            Analysis.id, Analysis.finished_at, Analysis.video_id, Analysis.asked_key, place.label("place")
        ).where(Analysis.state == "succeeded", Analysis.current.is_(False))
    ).subquery()
    seen = aliased(Analysis)
    replaced = exists().where(
        seen.video_id == earlier.c.video_id, seen.asked_key == earlier.c.asked_key, seen.current
    )
    until = leases.now(session) - timedelta(days=retention.days)
    kept_for_rollback = exists().where(
        ItemRow.replaced_analysis_id == earlier.c.id, ItemRow.switched_at >= until
    )
    return (
        select(earlier.c.id)
        .where(earlier.c.place > retention.keep, earlier.c.finished_at < until, replaced, ~kept_for_rollback)
        .order_by(earlier.c.id)
    )


def _forget(session: Session, ids: Sequence[int]) -> None:
    """Whoever asked for them is answered by what has replaced them, and so is what a run has still to ask."""
    now = aliased(Analysis)
    answer = (
        select(now.id)
        .join(Analysis, (now.video_id == Analysis.video_id) & (now.asked_key == Analysis.asked_key))
        .where(now.current, Analysis.id == RequestRow.analysis_id)
        .scalar_subquery()
    )
    asked = update(RequestRow).where(RequestRow.analysis_id.in_(ids)).values(analysis_id=answer)
    session.execute(asked.execution_options(synchronize_session=False))
    instead = select(now.id).where(
        now.video_id == ItemRow.video_id, now.asked_key == ItemRow.asked_key, now.current
    )
    asks = update(ItemRow).where(ItemRow.source_analysis_id.in_(ids))
    asks = asks.values(source_analysis_id=instead.scalar_subquery())
    session.execute(asks.execution_options(synchronize_session=False))
    gone = ItemRow.replaced_analysis_id.in_(ids), ItemRow.state == "switched"
    session.execute(update(ItemRow).where(*gone).values(state="pruned"))
    session.execute(delete(Analysis).where(Analysis.id.in_(ids)))
