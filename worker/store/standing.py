"""Standing questions: kept, put to every new video they are about, and what they could be tried on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, joinedload, selectinload

from vm.errors import QuestionError
from vm.result import Mode
from worker.archive_tables import HitRow, StandingAnalysis, StandingRow
from worker.errors import InvalidRule
from worker.jobs import AskSettings, Submission
from worker.standing import Footage, Kept, Standing
from worker.store import asking, leases, sightings, sources
from worker.store.sessions import Sessions
from worker.store.usable import usable
from worker.tables import Analysis, Collection, SourceRow, Video
from worker.tables import Submission as SubmissionRow

_Pair = tuple[StandingRow, Analysis]


class Standings:
    """The table `standing_questions`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, standing: Standing, enabled: bool = True) -> int:
        """Keeps it, for the videos that come from now on. Gives its id."""
        with self._sessions.begin() as session:
            collection = sources.known_collection(session, standing.collection)
            name = standing.source
            source = None if name is None else sources.known_source(session, collection, name)
            row = StandingRow(
                collection=collection,
                source=source,
                question=standing.question,
                options=list(standing.options),
                mode=standing.mode,
                settings=asdict(standing.settings),
                threshold=standing.threshold,
                active_from=standing.active_from,
                active_until=standing.active_until,
                hours=standing.hours,
                time_zone=standing.time_zone,
                webhook_url=standing.webhook_url,
                enabled=enabled,
                created_at=leases.now(session),
            )
            session.add(row)
            session.flush()
            return row.id

    def all(self) -> list[Kept]:
        """In the order in which they were added.

        Raises:
            InvalidRule: one of them is of no use any more; it says which.
        """
        hits = select(func.count()).where(HitRow.standing_id == StandingRow.id).scalar_subquery()
        query = (
            select(StandingRow, hits)
            .options(joinedload(StandingRow.collection), joinedload(StandingRow.source))
            .order_by(StandingRow.id)
        )
        with self._sessions.reading() as session:
            return [
                Kept(row.id, standing_of(row), row.enabled, row.created_at, count)
                for row, count in session.execute(query)
            ]

    def enable(self, ids: Sequence[int], enabled: bool) -> None:
        """Switches them on or off. One that is off is asked no more, and what it was asked makes no hits.

        Raises:
            InvalidRule: one of them does not exist; nothing is changed.
        """
        with self._sessions.begin() as session:
            _check(session, ids)
            session.execute(update(StandingRow).where(StandingRow.id.in_(ids)).values(enabled=enabled))

    def remove(self, ids: Sequence[int]) -> None:
        """Forgets them and their hits; their analyses stay.

        Raises:
            InvalidRule: one of them does not exist; nothing is changed.
        """
        with self._sessions.begin() as session:
            _check(session, ids)
            session.execute(delete(StandingRow).where(StandingRow.id.in_(ids)))

    def is_known(self, collection: str, source: str | None) -> bool:
        """Whether anything has named this collection, or this source in it, before."""
        query = select(Collection.id).where(Collection.name == collection)
        if source is not None:
            query = query.join(SourceRow).where(SourceRow.name == source)
        with self._sessions.reading() as session:
            return session.scalar(query) is not None

    def would_ask(self, collection: str | None, source: str | None) -> bool:
        """Whether any of them is on for videos from there."""
        named = select(SourceRow.id).join(Collection)
        named = named.where(Collection.name == collection, SourceRow.name == source)
        everywhere = or_(StandingRow.source_id.is_(None), StandingRow.source_id.in_(named))
        with self._sessions.reading() as session:
            on = exists().where(StandingRow.enabled, _named(collection), everywhere)
            return bool(session.scalar(select(on)))

    def footage(
        self, collection: str, source: str | None, since: datetime | None, until: datetime | None
    ) -> list[Footage]:
        """The readable videos of a collection, or of a source in it, by when they were recorded."""
        began = func.coalesce(Video.recorded_at, Video.added_at, type_=Video.added_at.type)
        query = (
            select(Video, began)
            .outerjoin(SourceRow)
            .options(selectinload(Video.secrets))
            .where(Video.state == "readable", Video.duration > 0, _belongs(collection, source))
            .order_by(began, Video.id)
        )
        if since is not None:
            query = query.where(began >= since)
        if until is not None:
            query = query.where(began < until)
        with self._sessions.reading() as session:
            return [_footage(video, moment) for video, moment in session.execute(query)]


def ask_standing(session: Session, video: Video, submission: Submission, fingerprint: str) -> list[Analysis]:
    """Puts to a submitted video what stands for where it comes from, and corrects the instants of what was
    seen in it before. Gives the analyses, new or known.

    Whoever calls has locked the video's row, and then all its analyses.
    """
    locked = _locked(session, _CONCERNED, about(video, submission))
    if not locked:
        return []
    on = _is_on(video.source_id, _named(submission.collection))
    sightings.retime(session, video)
    covering = _covering(session, locked, video, on)
    wanted = asking.Wanted(fingerprint, submission.priority)
    found = asking.ask(session, video, [standing_of(row).request for row in covering], wanted)
    session.flush()
    for analysis in found:
        asking.want_now(session, analysis)
    new = _link(session, zip(covering, found, strict=True))
    answered = [(row, analysis) for row, analysis in new if analysis.state == "succeeded"]
    sightings.record(session, _asked(answered))
    return found


def about(video: Video, submission: Submission) -> dict[str, object]:
    """What a statement with `CONCERNS_ANY` must be given."""
    return {"of_collection": submission.collection, "of_source": video.source_id, "of_video": video.id}


def ended(session: Session, analysis_id: int, run_id: int | None) -> None:
    """What follows for standing questions when an analysis has ended with a result. What a re-indexing run
    asks anew is still the standing question's.

    Whoever calls has locked the video's row, and then the analysis.
    """
    asking_it = _locked(session, _ASKING, {"of": analysis_id}) if run_id is None else []
    if run_id is None and not asking_it:
        return
    analysis = session.get_one(Analysis, analysis_id, populate_existing=True)
    if run_id is not None:
        asking_it = _asking_the_same(session, analysis)
        _link(session, ((row, analysis) for row in asking_it))
    sightings.record(session, _asked((row, analysis) for row in asking_it if row.enabled))


def standing_of(row: StandingRow) -> Standing:
    """What a row says; of its webhook what may be shown.

    Raises:
        InvalidRule: it is of no use any more, as when a time zone was given up; it says which.
    """
    try:
        return Standing(
            row.question,
            row.collection.name,
            row.source.name if row.source else None,
            tuple(row.options),
            cast(Mode, row.mode),
            AskSettings(**row.settings),
            row.threshold,
            row.active_from,
            row.active_until,
            row.hours,
            row.time_zone,
            row.shown_webhook_url,
        )
    except (InvalidRule, QuestionError) as error:
        raise InvalidRule(f"standing question {row.id}: {error}. Remove it, and add it anew") from error


def _locked(session: Session, query: Select[int], given: Mapping[str, object]) -> Sequence[StandingRow]:
    """The usable ones that a `_locking` query finds: mostly none, then no rows are made."""
    ids = session.connection().scalars(query, given).all()
    chosen = select(StandingRow).where(StandingRow.id.in_(ids)).order_by(StandingRow.id)
    found = session.scalars(chosen.execution_options(populate_existing=True)).all() if ids else ()
    return [row for row, _ in usable(found, standing_of)]


def _locking(which: ColumnElement[bool]) -> Select[int]:
    """Standing questions, to be changed and added to by nobody else until the transaction has ended.

    All that it needs a transaction locks at once: so no two wait for each other for ever.
    """
    return select(StandingRow.id).where(which).order_by(StandingRow.id).with_for_update(key_share=True)


def _is_on(
    source_id: int | BindParameter[int] | None, of_collection: ColumnElement[bool]
) -> ColumnElement[bool]:
    everywhere = or_(StandingRow.source_id.is_(None), StandingRow.source_id == source_id)
    return and_(StandingRow.enabled, of_collection, everywhere)


def _covering(
    session: Session, locked: Sequence[StandingRow], video: Video, on: ColumnElement[bool]
) -> list[StandingRow]:
    """Those of the locked ones that are on for a video, and were when it was recorded."""
    ids = set(session.scalars(select(StandingRow.id).where(on))) if locked else set()
    recorded = video.recorded_at or video.added_at
    return [row for row in locked if row.id in ids and standing_of(row).is_active(recorded)]


def _asking_the_same(session: Session, analysis: Analysis) -> list[StandingRow]:
    """The standing questions that another generation of the same question answers, or that ask it now."""
    before = (
        select(StandingAnalysis.standing_id)
        .join(Analysis)
        .where(Analysis.video_id == analysis.video_id, Analysis.asked_key == analysis.asked_key)
    )
    source = select(SourceRow.collection_id).where(SourceRow.id == analysis.video.source_id)
    on = _is_on(analysis.video.source_id, StandingRow.collection_id == source.scalar_subquery())
    locked = _locked(session, _locking(or_(on, StandingRow.id.in_(before))), {})
    known = set(session.scalars(before))
    new = _covering(session, locked, analysis.video, on)
    same = {row.id for row in new if standing_of(row).request.asked_key == analysis.asked_key}
    return [row for row in locked if row.id in known | same]


def _link(session: Session, pairs: Iterable[_Pair]) -> list[_Pair]:
    """Keeps which analyses answer which standing questions. Gives those that did not do so before."""
    new = [pair for pair in pairs if session.get(StandingAnalysis, (pair[0].id, pair[1].id)) is None]
    for row, analysis in new:
        analysis.followed = True
        session.add(StandingAnalysis(standing_id=row.id, analysis_id=analysis.id))
    session.flush()
    return new


def _asked(pairs: Iterable[_Pair]) -> list[sightings.Asked]:
    return [(row, standing_of(row), analysis) for row, analysis in pairs]


def _named(collection: str | BindParameter[str] | None) -> ColumnElement[bool]:
    found = select(Collection.id).where(Collection.name == collection)
    return StandingRow.collection_id == found.scalar_subquery()


def _belongs(collection: str, source: str | None) -> ColumnElement[bool]:
    """True of videos, joined with their sources, that come from there."""
    of_collection = SourceRow.collection_id == (
        select(Collection.id).where(Collection.name == collection).scalar_subquery()
    )
    if source is not None:
        return of_collection & (SourceRow.name == source)
    submitted = exists().where(SubmissionRow.video_id == Video.id, SubmissionRow.collection == collection)
    return of_collection | submitted


def _check(session: Session, ids: Sequence[int]) -> None:
    query = select(StandingRow.id).where(StandingRow.id.in_(ids)).order_by(StandingRow.id)
    known = session.scalars(query.with_for_update()).all()
    if missing := sorted(set(ids).difference(known)):
        raise InvalidRule(f"there is no standing question {missing[0]}: see `videomind standing list`")


def _footage(video: Video, began: datetime) -> Footage:
    return Footage(
        video.id,
        video.uri,
        video.sha256,
        video.source_id,
        video.duration or 0.0,
        began,
        video.recorded_at,
    )


_IS_CONCERNED = or_(
    _is_on(bindparam("of_source"), _named(bindparam("of_collection"))),
    StandingRow.id.in_(sightings.standing_ids(bindparam("of_video"))),
)
_CONCERNED = _locking(_IS_CONCERNED)
CONCERNS_ANY = exists().where(_IS_CONCERNED)
"""Whether there is anything that `ask_standing` would put to a video, or correct: see `about`."""
_ASKING = _locking(
    StandingRow.id.in_(
        select(StandingAnalysis.standing_id).where(StandingAnalysis.analysis_id == bindparam("of"))
    )
)
