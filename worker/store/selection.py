"""Which questions of which videos a rule chooses, and what asking them again would take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TypeVarTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    insert,
    literal,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from worker import rows
from worker.archive_tables import ItemRow, StandingRow
from worker.jobs import Request
from worker.reindexing import Reason, Rule, Selection
from worker.standing import Standing
from worker.store.standing import standing_of
from worker.store.usable import usable
from worker.tables import Analysis, Collection, MomentRow, SourceRow, Video

Columns = TypeVarTuple("Columns")

_MEASURED = 1000  # of the latest analyses, from which it is told how long others will take


def choose(session: Session, run_id: int, rule: Rule, fingerprint: str, moment: datetime) -> None:
    """Adds a run's items: each question of each video once, for the first of the reasons that holds."""
    columns = ["run_id", "state", "video_id", "asked_key", "source_analysis_id", "reason"]
    for found in (_answered(rule, fingerprint, moment), _failed(rule)):
        chosen = found.subquery()
        query = select(literal(run_id), literal("waiting"), *chosen.c)
        session.execute(insert(ItemRow).from_select(columns, query))
    if "never" in rule.reasons:
        session.add_all(_never_asked(session, run_id, rule))
    session.flush()


def summary(session: Session, run_id: int, fingerprint: str) -> Selection:
    """How much a run's items are, and what they would cost."""
    of_run = select(ItemRow.video_id, Video.duration).join(Video, Video.id == ItemRow.video_id)
    questions = of_run.where(ItemRow.run_id == run_id).subquery()
    count, asked_seconds = session.execute(
        select(func.count(), func.coalesce(func.sum(questions.c.duration), 0.0))
    ).one()
    videos = select(questions.c.video_id, questions.c.duration).distinct().subquery()
    video_count, seconds = session.execute(
        select(func.count(), func.coalesce(func.sum(videos.c.duration), 0.0))
    ).one()
    reasons = select(ItemRow.reason, func.count()).where(ItemRow.run_id == run_id).group_by(ItemRow.reason)
    rate = _seconds_per_second(session, fingerprint)
    estimate = None if rate is None else rate * asked_seconds
    found: dict[Reason, int] = dict(session.execute(reasons).all())
    return Selection(video_count, count, seconds / 3600, estimate, found)


def _answered(rule: Rule, fingerprint: str, moment: datetime) -> Select[int, str, int, str]:
    """What readers see, and should not be content with."""
    best = select(func.coalesce(MomentRow.verifier_score, MomentRow.confidence)).where(
        MomentRow.analysis_id == Analysis.id, MomentRow.rank == 1
    )
    days = timedelta(days=rule.older_than_days or 0)
    conditions: dict[Reason, ColumnElement[bool]] = {
        "stale": Analysis.fingerprint != fingerprint,
        "old": Analysis.finished_at < moment - days,
        "low_score": func.coalesce(best.scalar_subquery(), -1.0) < (rule.below_score or 0.0),
    }
    chosen = [(conditions[reason], reason) for reason in conditions if reason in rule.reasons]
    reason = case(*((condition, literal(name)) for condition, name in chosen)) if chosen else literal("stale")
    return _bounded(
        select(Analysis.video_id, Analysis.asked_key, Analysis.id, reason.label("reason"))
        .join(Video, Video.id == Analysis.video_id)
        .where(Analysis.current, or_(false(), *(condition for condition, _ in chosen))),
        rule,
    )


def _failed(rule: Rule) -> Select[int, str, int, str]:
    """What has failed and was never answered: the last try of each."""
    later = aliased(Analysis)
    same = and_(later.video_id == Analysis.video_id, later.asked_key == Analysis.asked_key)
    waits = later.state.in_(("queued", "running"))
    replaced = exists().where(same, or_(later.current, later.id > Analysis.id, waits))
    return _bounded(
        select(Analysis.video_id, Analysis.asked_key, Analysis.id, literal("failed").label("reason"))
        .join(Video, Video.id == Analysis.video_id)
        .where(Analysis.state == "failed", ~replaced, literal("failed" in rule.reasons)),
        rule,
    )


def _never_asked(session: Session, run_id: int, rule: Rule) -> Iterator[ItemRow]:
    """The rule's questions and the standing ones, for videos that were never asked anything."""
    unasked = ~exists().where(Analysis.video_id == Video.id)
    videos = session.execute(_bounded(select(Video.id, Video.source_id).where(unasked), rule)).all()
    own = [Request(question) for question in rule.questions]
    for video_id, source_id in videos:
        requests = [*own, *(standing.request for standing in _standing_on(session, source_id))]
        for request in {request.asked_key: request for request in requests}.values():
            yield ItemRow(
                run_id=run_id,
                video_id=video_id,
                asked_key=request.asked_key,
                state="waiting",
                reason="never",
                request=rows.request_columns(request),
            )


def _standing_on(session: Session, source_id: int | None) -> list[Standing]:
    """The standing questions that are asked of a source's videos."""
    if source_id is None:
        return []
    of_source = SourceRow.id == source_id, SourceRow.collection_id == StandingRow.collection_id
    query = select(StandingRow).join(SourceRow, and_(*of_source)).order_by(StandingRow.id)
    mine = or_(StandingRow.source_id.is_(None), StandingRow.source_id == source_id)
    found = session.scalars(query.where(StandingRow.enabled, mine))
    return [standing for _, standing in usable(found, standing_of)]


def _bounded(query: Select[*Columns], rule: Rule) -> Select[*Columns]:
    """Of these only what lies within the rule's bounds, and can be read."""
    query = query.where(Video.state == "readable")
    if rule.collection:
        query = query.join(SourceRow, SourceRow.id == Video.source_id).join(
            Collection, Collection.id == SourceRow.collection_id
        )
        query = query.where(Collection.name == rule.collection)
    if rule.source:
        query = query.where(SourceRow.name == rule.source)
    if rule.since:
        query = query.where(Video.recorded_at >= datetime.fromisoformat(rule.since))
    if rule.until:
        query = query.where(Video.recorded_at < datetime.fromisoformat(rule.until))
    return query


def _seconds_per_second(session: Session, fingerprint: str) -> float | None:
    """Compute for one second of video, as measured with this checkpoint, else with any."""
    measured = (
        select(Analysis.compute_seconds, Video.duration)
        .join(Video, Video.id == Analysis.video_id)
        .where(Analysis.compute_seconds.is_not(None), Video.duration > 0)
        .order_by(Analysis.finished_at.desc())
        .limit(_MEASURED)
    )
    for which in (measured.where(Analysis.fingerprint == fingerprint), measured):
        found = which.subquery()
        sums = select(func.sum(found.c.compute_seconds), func.sum(found.c.duration))
        spent, duration = session.execute(sums).one()
        if duration:
            return float(spent) / float(duration)
    return None
