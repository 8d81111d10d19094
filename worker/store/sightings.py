"""Moments that standing questions wait for become sightings, and sightings events: see `worker.events`.

Whoever calls has locked the standing questions' rows, after the videos and their analyses. So what ends at
the same time is seen one after the other, and an event is one hit.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BindParameter, Select, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session

from vm.moments import Span
from worker import rows
from worker.archive_tables import HitRow, SightingRow, StandingRow
from worker.events import BORDER_SECONDS, Stretch, is_border, same_event
from worker.standing import Standing
from worker.store import leases
from worker.tables import Analysis, AnswerRow, CoverageRow, MomentRow, Video

Asked = tuple[StandingRow, Standing, Analysis]
"""A standing question, as a row and as what it says, and an analysis that answers it."""

_NEAR = 2 * BORDER_SECONDS  # at least as far apart as two sightings of one event may be


@dataclass(frozen=True)
class _Look:
    """An analysis that has ended, seen with the eyes of one standing question.

    `borders` are where its video and its windows begin and end, in seconds.
    """

    standing: StandingRow
    analysis: Analysis
    answer: str | None
    borders: tuple[float, ...]


def record(session: Session, asked: Sequence[Asked]) -> None:
    """Keeps the hits in what was found, in place of what was seen in the same analyses before."""
    session.flush()
    for row, standing, analysis in asked:
        look = _look(session, row, analysis)
        _set_aside(session, look)
        for moment in _moments(session, standing, analysis):
            _see(session, look, moment)
        _drop_set_aside(session, look)


def retime(session: Session, video: Video) -> None:
    """Corrects the instants of all that was seen in a video, whose recording's start is known by now.

    Hits stay the events they were: what has been told as two is not told as one.
    """
    seen = select(SightingRow).join(Analysis).where(Analysis.video_id == video.id)
    changed = set()
    for row in session.scalars(seen).all():
        instants = rows.instants(Span(row.start_seconds, row.end_seconds), video.recorded_at)
        if instants != (row.starts_at, row.ends_at):
            row.starts_at, row.ends_at = instants
            changed.add(row.hit_id)
    session.flush()
    for hit in session.scalars(select(HitRow).where(HitRow.id.in_(changed))).all():
        whole = select(func.min(SightingRow.starts_at), func.max(SightingRow.ends_at))
        hit.starts_at, hit.ends_at = session.execute(whole.where(SightingRow.hit_id == hit.id)).one()


def standing_ids(video_id: int | BindParameter[int]) -> Select[int]:
    """Of the standing questions for which something was seen in a video."""
    hits = select(HitRow.standing_id).join(SightingRow)
    return hits.join(Analysis, Analysis.id == SightingRow.analysis_id).where(Analysis.video_id == video_id)


def _look(session: Session, standing: StandingRow, analysis: Analysis) -> _Look:
    answer = session.scalar(select(AnswerRow.text).where(AnswerRow.analysis_id == analysis.id))
    windows = select(CoverageRow.start_seconds, CoverageRow.end_seconds)
    found = session.execute(windows.where(CoverageRow.analysis_id == analysis.id))
    inner = [border for window in found for border in window]
    return _Look(standing, analysis, answer, (0.0, analysis.video.duration or 0.0, *inner))


def _moments(session: Session, standing: Standing, analysis: Analysis) -> list[MomentRow]:
    query = select(MomentRow).where(MomentRow.analysis_id == analysis.id).order_by(MomentRow.rank)
    return [
        moment
        for moment in session.scalars(query).all()
        if standing.is_hit(_score(moment), moment.fallback, moment.starts_at)
    ]


def _score(moment: MomentRow) -> float:
    return moment.confidence if moment.verifier_score is None else moment.verifier_score


def _see(session: Session, look: _Look, moment: MomentRow) -> None:
    """Adds one sighting, to the hit it is another sighting of or to a new one."""
    sighting = SightingRow(
        analysis_id=look.analysis.id,
        rank=moment.rank,
        start_seconds=moment.start_seconds,
        end_seconds=moment.end_seconds,
        starts_at=moment.starts_at,
        ends_at=moment.ends_at,
        cut_before=is_border(moment.start_seconds, look.borders),
        cut_after=is_border(moment.end_seconds, look.borders),
        score=_score(moment),
    )
    hits = _same(session, look, sighting)
    hit = _united(session, hits) if hits else _new(session, look, sighting)
    _widen(hit, sighting)
    if sighting.score > hit.score:
        _take_best(hit, sighting, look.analysis.video_id, look.answer)
    sighting.hit_id = hit.id
    session.add(sighting)
    session.flush()


def _same(session: Session, look: _Look, sighting: SightingRow) -> list[HitRow]:
    """The hits it is another sighting of, the oldest first: of the same camera by the clock on the wall, or
    of the same video where that is not known."""
    query = select(SightingRow, HitRow).join(HitRow).join(Analysis, Analysis.id == SightingRow.analysis_id)
    query = query.where(HitRow.standing_id == look.standing.id).order_by(HitRow.id)
    if sighting.starts_at and sighting.ends_at:
        margin = timedelta(seconds=_NEAR)
        begin, end = sighting.starts_at - margin, sighting.ends_at + margin
        query = query.join(Video, Video.id == Analysis.video_id).where(
            Video.source_id.is_not_distinct_from(look.analysis.video.source_id),
            and_(HitRow.ends_at >= begin, HitRow.starts_at <= end),
            and_(SightingRow.ends_at >= begin, SightingRow.starts_at <= end),
        )
    else:
        query = query.where(
            SightingRow.starts_at.is_(None),
            Analysis.video_id == look.analysis.video_id,
            SightingRow.end_seconds >= sighting.start_seconds - _NEAR,
            SightingRow.start_seconds <= sighting.end_seconds + _NEAR,
        )
    here = _stretch(sighting)
    found = session.execute(query).all()
    return list(dict.fromkeys(hit for other, hit in found if same_event(here, _stretch(other))))


def _stretch(row: SightingRow) -> Stretch:
    if row.starts_at and row.ends_at:
        begin, end = row.starts_at.timestamp(), row.ends_at.timestamp()
    else:
        begin, end = row.start_seconds, row.end_seconds
    return Stretch(begin, end, row.cut_before, row.cut_after)


def _new(session: Session, look: _Look, sighting: SightingRow) -> HitRow:
    """Hits that were missed so far are not told years later: a re-indexing run tells nobody."""
    moment = leases.now(session)
    is_told = look.standing.shown_webhook_url is not None and look.analysis.run_id is None
    hit = HitRow(
        standing_id=look.standing.id,
        event_id=str(uuid.uuid4()),
        found_at=moment,
        starts_at=sighting.starts_at,
        ends_at=sighting.ends_at,
        delivery_state="pending" if is_told else "none",
        delivery_attempts=0,
        deliver_at=moment if is_told else None,
    )
    _take_best(hit, sighting, look.analysis.video_id, look.answer)
    session.add(hit)
    session.flush()
    return hit


def _united(session: Session, hits: Sequence[HitRow]) -> HitRow:
    """Several that turn out to be one event: it keeps the id under which it was told first."""
    kept, *others = hits
    for other in others:
        moved = update(SightingRow).where(SightingRow.hit_id == other.id).values(hit_id=kept.id)
        session.execute(moved.execution_options(synchronize_session="evaluate"))
        _widen(kept, other)
        if other.score > kept.score:
            _take_best(kept, other, other.video_id, other.answer)
        if kept.delivery_state == "none" and other.delivery_state == "pending":
            kept.delivery_state, kept.deliver_at = "pending", other.deliver_at
        session.delete(other)
    session.flush()
    return kept


def _widen(hit: HitRow, seen: SightingRow | HitRow) -> None:
    if hit.starts_at and hit.ends_at and seen.starts_at and seen.ends_at:
        hit.starts_at, hit.ends_at = min(hit.starts_at, seen.starts_at), max(hit.ends_at, seen.ends_at)


def _take_best(hit: HitRow, seen: SightingRow | HitRow, video_id: int, answer: str | None) -> None:
    hit.score, hit.answer, hit.video_id = seen.score, answer, video_id
    hit.start_seconds, hit.end_seconds = seen.start_seconds, seen.end_seconds


# What an analysis that ends once more was seen to show before says which hits its moments belong to, and is
# then replaced: until that its ranks are negative.


def _set_aside(session: Session, look: _Look) -> None:
    of_standing = select(HitRow.id).where(HitRow.standing_id == look.standing.id)
    before = SightingRow.analysis_id == look.analysis.id, SightingRow.hit_id.in_(of_standing)
    session.execute(
        update(SightingRow)
        .where(*before)
        .values(rank=-SightingRow.rank)
        .execution_options(synchronize_session=False)
    )


def _drop_set_aside(session: Session, look: _Look) -> None:
    """And the hits that nothing shows any more, unless somebody was told of them."""
    of_standing = select(HitRow.id).where(HitRow.standing_id == look.standing.id)
    before = SightingRow.analysis_id == look.analysis.id, SightingRow.hit_id.in_(of_standing)
    gone = delete(SightingRow).where(*before, SightingRow.rank < 0).returning(SightingRow.hit_id)
    hit_ids = set(session.scalars(gone.execution_options(synchronize_session=False)))
    unseen = ~exists().where(SightingRow.hit_id == HitRow.id)
    if hit_ids:
        session.execute(
            delete(HitRow)
            .where(HitRow.id.in_(hit_ids), HitRow.delivery_attempts == 0, unseen)
            .execution_options(synchronize_session=False)
        )
