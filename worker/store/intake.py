"""The end of an intake: the video, its source, and one analysis for each request, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from vm.result import VideoFacts
from worker import rows
from worker.columns import Beside
from worker.errors import Cancelled, Quarantined
from worker.jobs import Intake, Origin, Submission
from worker.masking import masked
from worker.store import asking, coverage, first_sight, leases, search, sources
from worker.store.sessions import Sessions, adding, attached, dialect_of, together
from worker.store.standing import CONCERNS_ANY, about, ask_standing
from worker.tables import Analysis, RequestRow, Video
from worker.tables import Submission as SubmissionRow

UNNAMED = ""
"""The source of what belongs to a collection, and nobody said to which source in it."""


_NOTHING_YET = {"crashes": 0, "error_code": None, "error_message": None}
# Most concern no standing question: that is seen by the way, with no statement of its own.
_END = (
    update(SubmissionRow)
    .where(leases.held(SubmissionRow))
    .values(**leases.ended(SubmissionRow), state="succeeded", video_id=bindparam("new_video_id"))
    .returning(SubmissionRow.cancel_requested, Beside(CONCERNS_ANY).label("concerns_any"))
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
        if self._sessions.is_postgresql:
            columns, wanted = _columns(checked), _wanted(submission, fingerprint)
            ids = first_sight.register(self._sessions, intake, columns, _place(submission), wanted)
            if ids is not None:
                return ids
        with self._sessions.begin() as session:
            video, is_new = _video(session, submission, checked)
            given = {"new_video_id": video.id, **about(video, submission), **leases.by(intake.lease)}
            ended = session.connection().execute(_END, given).one_or_none()
            if ended is None:
                session.rollback()
                return None
            if ended.cancel_requested:
                raise Cancelled(f"submission {intake.lease.id} was cancelled")
            if video.state == "quarantined":
                raise Quarantined(video.error_message)
            ids = _analyses(session, video, submission, fingerprint, is_new)
            _answer_with(session, intake.lease.id, ids)
            if not ended.concerns_any:
                return ids
            standing = [found.id for found in ask_standing(session, video, submission, fingerprint)]
            return [*ids, *(each for each in dict.fromkeys(standing) if each not in ids)]

    def record_unreadable(self, intake: Intake, sha256: str, size_bytes: int, error: Exception) -> None:
        """Why a video that was fetched cannot be opened."""
        code, message = leases.described(error)
        with self._sessions.begin() as session:
            columns = {"sha256": sha256, "size_bytes": size_bytes, "state": "known", **_NOTHING_YET}
            video, _ = _known(session, intake.submission, columns)
            if video.state != "quarantined":
                video.state, video.error_code, video.error_message = "unreadable", code, message


def _columns(checked: Checked) -> dict[str, Any]:
    """Of a video that can be read."""
    return {
        "sha256": checked.sha256,
        "size_bytes": checked.size_bytes,
        "state": "readable",
        "recorded_at": checked.recorded_at,
        "recorded_at_origin": checked.recorded_at_origin,
        **_NOTHING_YET,
        **rows.fact_columns(checked.facts),
    }


def _place(submission: Submission) -> dict[str, Any]:
    """Where a submission says that its video comes from."""
    return {"of_collection": submission.collection, "of_source": submission.source or UNNAMED}


def _wanted(submission: Submission, fingerprint: str) -> asking.Wanted:
    return asking.Wanted(fingerprint, submission.priority, submission.key if submission.force else "")


def _video(session: Session, submission: Submission, checked: Checked) -> tuple[Video, bool]:
    video, is_new = _known(session, submission, _columns(checked))
    if is_new:
        return video, True
    if video.state != "quarantined":
        video.state, video.error_code, video.error_message = "readable", None, None
    for name, value in rows.fact_columns(checked.facts).items():
        setattr(video, name, value)
    before = video.recorded_at
    if checked.recorded_at is not None and (before is None or checked.recorded_at_origin == "argument"):
        video.recorded_at = checked.recorded_at
        video.recorded_at_origin = checked.recorded_at_origin
        if before != checked.recorded_at:
            coverage.retime(session, video)
            search.retime(session, video)
    return video, False


def _known(session: Session, submission: Submission, columns: Mapping[str, Any]) -> tuple[Video, bool]:
    """The video's row, to be written by nobody else until the transaction has ended, and whether it is new.

    Args:
        columns: of a new one.
    """
    place = _place(submission)
    shown = masked(submission.uri)
    connection = session.connection()
    added = connection.execute(_adding(dialect_of(session)), {"uri": shown, **columns, **place}).one_or_none()
    if added is None:
        video, named = (
            session.scalars(_LOCK, {"sha256": columns["sha256"]}).one(),
            connection.scalar(first_sight.NAMED, place),
        )
    else:
        named = added.source_id
        video = attached(session, Video(id=added.id, shown_uri=shown, source_id=named, **columns))
    if added is None or video.shown_uri != submission.uri:
        video.uri, video.size_bytes = submission.uri, columns["size_bytes"]
    is_elsewhere = named is None or video.source_id != named
    if submission.collection and is_elsewhere and not _is_there(video, submission):
        video.source_id = named or _source(session, submission.collection, place["of_source"])
    return video, added is not None


@cache
def _adding(dialect: str) -> ReturningInsert[Any]:
    """Adds a video that comes from a source which may be known."""
    return (
        adding(Video, dialect)
        .values(source_id=first_sight.NAMED.scalar_subquery())
        .returning(Video.source_id)
    )


def _is_there(video: Video, submission: Submission) -> bool:
    """A source that is known is not forgotten where only its collection is named."""
    source = None if submission.source else video.source
    return source is not None and source.collection.name == submission.collection


def _source(session: Session, collection: str, source: str) -> int:
    """The id of what may be new."""
    row = sources.known_source(session, sources.known_collection(session, collection), source)
    return row.id


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
    found = asking.ask(session, video, submission.requests, _wanted(submission, fingerprint), is_new)
    for row in found:
        asking.want_now(session, row)
    return [row.id for row in found]
