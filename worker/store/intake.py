"""The end of an intake: the video, its source, and one analysis for each request, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from vm.result import VideoFacts
from worker import rows
from worker.errors import Cancelled, Quarantined
from worker.jobs import Intake, Origin, Submission
from worker.masking import masked
from worker.store import asking, coverage, leases, search
from worker.store.sessions import Sessions, added, found_or_added, together
from worker.store.standing import ask_standing
from worker.tables import Analysis, Collection, RequestRow, SourceRow, Video
from worker.tables import Submission as SubmissionRow

UNNAMED = ""
"""The source of what belongs to a collection, and nobody said to which source in it."""


_IS_UNWANTED = select(SubmissionRow.cancel_requested).where(leases.held(SubmissionRow)).with_for_update()
_NAMED = (
    select(SourceRow.id)
    .join(Collection)
    .where(Collection.name == bindparam("collection"), SourceRow.name == bindparam("source"))
)
_LOCK = select(Video).where(Video.sha256 == bindparam("sha256")).with_for_update(key_share=True)
_LOCK_ANALYSES = (
    select(Analysis.id).where(Analysis.video_id == bindparam("of")).order_by(Analysis.id).with_for_update()
)
_ANSWERED = (
    update(RequestRow)
    .where(RequestRow.submission_id == bindparam("of"), RequestRow.position == bindparam("place"))
    .values(analysis_id=bindparam("answer"))
)


@dataclass(frozen=True)
class Checked:
    """A video that was fetched and opened: its identity, its facts, and when it was recorded, if known."""

    sha256: str
    size_bytes: int
    facts: VideoFacts
    recorded_at: datetime | None = None
    recorded_at_origin: Origin | None = None


class Intakes:
    """What becomes of submissions whose videos are there."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def register(self, intake: Intake, checked: Checked, fingerprint: str) -> list[int] | None:
        """The ids of the analyses that answer the submission's requests, new or known, in their order, and
        after them of those that answer the standing questions on what it comes from.

        What failed or was cancelled is queued again; what is queued, running or answered stays as it is,
        unless the submission insists. None, and nothing is written, where the work was taken over meanwhile.

        Raises:
            Quarantined: the video is not to be touched again.
            Cancelled: somebody asked for the submission to end.
        """
        submission = intake.submission
        with self._sessions.begin() as session:
            is_unwanted = session.connection().scalar(_IS_UNWANTED, leases.by(intake.lease))
            if is_unwanted is None:
                return None
            if is_unwanted:
                raise Cancelled(f"submission {intake.lease.id} was cancelled")
            video, is_new = _video(session, submission, checked)
            if video.state == "quarantined":
                raise Quarantined(video.error_message)
            ids = _analyses(session, video, submission, fingerprint, is_new)
            _answer_with(session, intake.lease.id, ids)
            standing = [found.id for found in ask_standing(session, video, submission, fingerprint)]
            session.flush()
            leases.end(session, SubmissionRow, intake.lease, state="succeeded", video_id=video.id)
            return [*ids, *(each for each in dict.fromkeys(standing) if each not in ids)]

    def record_unreadable(self, intake: Intake, sha256: str, size_bytes: int, error: Exception) -> None:
        """Why a video that was fetched cannot be opened."""
        code, message = leases.described(error)
        with self._sessions.begin() as session:
            video, _ = _known(session, intake.submission, sha256, size_bytes, {"state": "known"})
            if video.state != "quarantined":
                video.state, video.error_code, video.error_message = "unreadable", code, message

    def source_of(self, submission: Submission) -> tuple[str | None, str | None]:
        """The file name pattern and time zone of a submission's source, if it has any and they are needed."""
        told = submission.recorded_at
        if submission.source is None or (told and told.tzinfo):
            return None, None
        query = (
            select(SourceRow.recorded_at_pattern, SourceRow.time_zone)
            .join(Collection)
            .where(Collection.name == submission.collection, SourceRow.name == submission.source)
        )
        with self._sessions.begin() as session:
            found = session.execute(query).one_or_none()
            return (found[0], found[1]) if found else (None, None)

    def describe_source(
        self, collection: str, source: str, pattern: str | None, time_zone: str | None
    ) -> None:
        """Adds a source, or says anew how its files' names tell when they were recorded."""
        with self._sessions.begin() as session:
            row = _source(session, collection, source)
            row.recorded_at_pattern, row.time_zone = pattern, time_zone


def _video(session: Session, submission: Submission, checked: Checked) -> tuple[Video, bool]:
    facts = rows.fact_columns(checked.facts)
    recorded = {"recorded_at": checked.recorded_at, "recorded_at_origin": checked.recorded_at_origin}
    columns = {"state": "readable", **facts, **recorded}
    video, is_new = _known(session, submission, checked.sha256, checked.size_bytes, columns)
    if is_new:
        return video, True
    if video.state != "quarantined":
        video.state, video.error_code, video.error_message = "readable", None, None
    for name, value in facts.items():
        setattr(video, name, value)
    before = video.recorded_at
    if checked.recorded_at is not None and (before is None or checked.recorded_at_origin == "argument"):
        video.recorded_at = checked.recorded_at
        video.recorded_at_origin = checked.recorded_at_origin
        if before != checked.recorded_at:
            coverage.retime(session, video)
            search.retime(session, video)
    return video, False


def _known(
    session: Session, submission: Submission, sha256: str, size_bytes: int, found: Mapping[str, object]
) -> tuple[Video, bool]:
    """The video's row, to be written by nobody else until the transaction has ended, and whether it is new.

    Args:
        found: the columns of a new one.
    """
    name = submission.source or UNNAMED
    place = {"collection": submission.collection, "source": name}
    source_id = session.connection().scalar(_NAMED, place) if submission.collection else None
    about = {"sha256": sha256, "size_bytes": size_bytes, "source_id": source_id, "crashes": 0}
    nothing = {"error_code": None, "error_message": None}
    new = added(session, Video, uri=masked(submission.uri), **about, **nothing, **found)
    video = new or session.scalars(_LOCK, {"sha256": sha256}).one()
    if new is None or video.shown_uri != submission.uri:
        video.uri, video.size_bytes = submission.uri, size_bytes
    is_elsewhere = source_id is None or video.source_id != source_id
    if submission.collection and is_elsewhere and not _is_there(video, submission):
        video.source_id = source_id or _source(session, submission.collection, name).id
    return video, new is not None


def _is_there(video: Video, submission: Submission) -> bool:
    """A source that is known is not forgotten where only its collection is named."""
    source = None if submission.source else video.source
    return source is not None and source.collection.name == submission.collection


def _source(session: Session, collection: str, source: str) -> SourceRow:
    parent = found_or_added(
        session, select(Collection).filter_by(name=collection), Collection(name=collection)
    )
    session.flush()
    return found_or_added(
        session,
        select(SourceRow).filter_by(collection_id=parent.id, name=source),
        SourceRow(collection_id=parent.id, name=source),
    )


def _answer_with(session: Session, submission_id: int, analysis_ids: Sequence[int]) -> None:
    """Keeps which analyses answer the requests of a submission, in their order."""
    each = [
        {"of": submission_id, "place": place, "answer": id} for place, id in enumerate(analysis_ids, start=1)
    ]
    if each:
        session.connection().execute(_ANSWERED, together(each))


def _analyses(
    session: Session, video: Video, submission: Submission, fingerprint: str, is_new: bool
) -> list[int]:
    """One analysis for each request, new or known. Whoever else registers the video waits for its row."""
    if not is_new:  # standing questions are asked afterwards: all are locked now, in one order
        session.connection().execute(_LOCK_ANALYSES, {"of": video.id}).all()
    wanted = asking.Wanted(fingerprint, submission.priority, submission.key if submission.force else "")
    found = asking.ask(session, video, submission.requests, wanted, is_new)
    for row in found:
        asking.want_now(session, row)
    return [row.id for row in found]
