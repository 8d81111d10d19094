"""Analyses: claimed video by video, watched while they run, ended together with what they found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, bindparam, exists, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, joinedload, selectinload
from sqlalchemy.sql.dml import ReturningUpdate

from vm.result import Result
from worker import rows
from worker.archive_tables import StandingAnalysis
from worker.columns import Beside, Clock, Turn
from worker.errors import Quarantined
from worker.jobs import Claim, Lease, Outcome, Progress
from worker.masking import HIDDEN
from worker.store import coverage, finishing, leases, search, switching
from worker.store.sessions import Sessions, in_batches
from worker.tables import Analysis, RequestRow, Submission, Video

MOST_TOGETHER = 32
"""Questions taken at once on one video, so that no video keeps a worker from more urgent ones for long."""


_OF_VIDEO: dict[str, InstrumentedAttribute[Any]] = {
    "uri": Video.shown_uri,
    "sha256": Video.sha256,
    "recorded_at": Video.recorded_at,
    "duration": Video.duration,
}
_OF_CHECKPOINT = Analysis.fingerprint == bindparam("checkpoint")
_SOONER = (Analysis.priority.desc(), Analysis.submitted_at, Analysis.id)


def _next_video(*which: ColumnElement[bool]) -> ScalarSelect[int]:
    """The id of the video that the next analysis is about."""
    of = aliased(Analysis)
    first = leases.first(Analysis, _OF_CHECKPOINT, *which).scalar_subquery()
    return select(of.video_id).where(of.id == first).scalar_subquery()


def _claiming(chosen: Select[int]) -> ReturningUpdate[Any]:
    """Claims what is chosen, which is locked, and gives also what is known of the videos."""
    ids = chosen.cte("chosen")
    told = [
        Beside(
            select(column).where(Video.id == Analysis.video_id).correlate(Analysis).scalar_subquery()
        ).label(name)
        for name, column in _OF_VIDEO.items()
    ]
    return leases.taking(Analysis).where(Analysis.id.in_(select(ids.c.id))).returning(*told)


_FREE = leases.claimable(Analysis, bindparam("most_attempts")), _OF_CHECKPOINT
# Two that do it at once would share one video's questions.
_CLAIM = _claiming(
    select(Analysis.id)
    .where(*_FREE, Analysis.video_id == _next_video(Turn("claim")))
    .order_by(*_SOONER)
    .limit(MOST_TOGETHER)
    .with_for_update(skip_locked=True)
)
_CLAIM_THESE = _claiming(
    select(Analysis.id)
    .where(*_FREE, Analysis.id.in_(bindparam("ids", expanding=True)))
    .order_by(Analysis.id)
    .with_for_update()
)
_COMING = select(Video.id, Video.shown_uri.label("uri"), Video.sha256).where(Video.id == _next_video())
_MORE_URGENT = leases.first(Analysis, _OF_CHECKPOINT, Analysis.priority > bindparam("above"))
_REPORT = (
    update(Analysis)
    .where(leases.held(Analysis))
    .values(stage=bindparam("at"), progress=bindparam("part"), eta=Clock(bindparam("left")))
    .returning(Analysis.cancel_requested)
)


class Analyses:
    """The table `analyses`, and what is found."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def claim(self, holder: str, fingerprint: str, length: timedelta, most_attempts: int) -> list[Claim]:
        """All questions on the video that is next: with the most urgent, and of these the oldest.

        Args:
            fingerprint: of the checkpoint at hand; what is asked of another is left to others.
        """
        given = {"checkpoint": fingerprint, "most_attempts": most_attempts}
        return self._taken(_CLAIM, {**given, **leases.to_take(holder, length)})

    def claim_these(
        self, analysis_ids: Sequence[int], holder: str, fingerprint: str, length: timedelta
    ) -> list[Claim]:
        """Those of the analyses that nobody else works on, ordered by video."""
        given = {"checkpoint": fingerprint, "most_attempts": 1_000_000, "ids": analysis_ids}
        return self._taken(_CLAIM_THESE, {**given, **leases.to_take(holder, length)})

    def _taken(self, claim: ReturningUpdate[Any], given: Mapping[str, object]) -> list[Claim]:
        taken = self._sessions.execute(claim, given)
        ordered = sorted(taken, key=lambda row: (row.video_id, -row.priority, row.id))
        return [rows.claim_of(row, self._whole_uri(row.video_id, row.uri)) for row in ordered]

    def _whole_uri(self, video_id: int, shown: str) -> str:
        """With its secrets, if it has any."""
        if HIDDEN not in shown:
            return shown
        with self._sessions.begin() as session:
            return str(session.get_one(Video, video_id).uri)

    def coming(self, fingerprint: str, most_attempts: int) -> tuple[str, str] | None:
        """Uri and sha256 of the video that will most likely be claimed next."""
        given = {"checkpoint": fingerprint, "most_attempts": most_attempts}
        for row in self._sessions.execute(_COMING, given):
            return self._whole_uri(row.id, row.uri), row.sha256
        return None

    def is_outranked(self, priority: int, fingerprint: str, most_attempts: int) -> bool:
        """Whether something more urgent could be claimed just now."""
        given = {"checkpoint": fingerprint, "most_attempts": most_attempts, "above": priority}
        return bool(self._sessions.execute(_MORE_URGENT, given))

    def renew(self, held: Sequence[Lease], length: timedelta) -> list[Lease]:
        """Those that are still ours, now for so much longer."""
        with self._sessions.begin() as session:
            return leases.renew(session, Analysis, held, length)

    def report(self, lease: Lease, reached: Progress) -> bool:
        """Keeps how far an analysis is. True where somebody asked for its end."""
        told = {"at": reached.stage, "part": reached.fraction, "left": reached.seconds_left}
        with self._sessions.begin() as session:
            return bool(session.connection().scalar(_REPORT, {**leases.by(lease), **told}))

    def finish(self, claim: Claim, result: Result) -> bool:
        """The result and the end of the analysis, in one transaction.

        False, and nothing is written, where another process has claimed the analysis since.
        """
        if self._sessions.is_postgresql and finishing.finish_alone(self._sessions, claim, result):
            return True
        with self._sessions.connect() as connection:
            return finishing.finish(connection, claim, result)

    def fail(self, claim: Claim, error: Exception, most_attempts: int) -> bool:
        """Ends the analysis as failed, or has it tried again later.

        False, and nothing is written, where another process has claimed the analysis since.
        """
        with self._sessions.begin() as session:
            switching.lock_videos(session, [claim.video_id])
            held = leases.fail(session, Analysis, claim.lease, claim.attempts, most_attempts, error)
            if held:
                _unanswered(session, [claim.analysis_id])
            return held

    def end_cancelled(self, claim: Claim) -> bool:
        """Ends it as cancelled; it waits again where somebody has asked for it since."""
        with self._sessions.begin() as session:
            switching.lock_videos(session, [claim.video_id])
            held = leases.end_cancelled(session, Analysis, claim.lease)
            if held:
                _unanswered(session, [claim.analysis_id])
            return held

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Hands back what is still running under these claims, for somebody else to take."""
        with self._sessions.begin() as session:
            switching.lock_videos(session, [claim.video_id for claim in claims])
            held = leases.in_order(claim.lease for claim in claims)
            let_go = [lease.id for lease in held if leases.give_back(session, Analysis, lease)]
            _unanswered(session, let_go)

    def cancel(self, analysis_ids: Sequence[int]) -> None:
        """What waits ends at once; what runs ends between two stages or windows."""
        with self._sessions.begin() as session:
            _cancel(session, Analysis.id.in_(analysis_ids))

    def cancel_submitted(self, submission_ids: Sequence[int]) -> None:
        """The same, for all that these submissions ask and no other submission or standing question wants."""
        elsewhere = (
            select(RequestRow.analysis_id)
            .join(Submission, Submission.id == RequestRow.submission_id)
            .where(
                RequestRow.analysis_id == Analysis.id,
                Submission.id.not_in(submission_ids),
                Submission.cancel_requested.is_(False),
            )
        )
        asked = select(RequestRow.analysis_id).where(RequestRow.submission_id.in_(submission_ids))
        with self._sessions.begin() as session:
            standing = exists().where(StandingAnalysis.analysis_id == Analysis.id)
            _cancel(session, and_(Analysis.id.in_(asked), ~elsewhere.exists(), ~standing))

    def retry(self, analysis_ids: Sequence[int]) -> int:
        """Has what failed or was cancelled tried again from the start. How many."""
        count = 0
        for some in in_batches(analysis_ids):
            ended = and_(Analysis.id.in_(some), Analysis.state.in_(("failed", "cancelled")))
            with self._sessions.begin() as session:
                _release(session, select(Analysis.video_id).where(ended))
                again = rows.asked_anew(Clock())
                fresh = {"progress": 0.0, "stage": None, "run_id": None}
                statement = update(Analysis).where(ended).values(**fresh, **again)
                statement = statement.execution_options(synchronize_session=False)
                count += len(session.scalars(statement.returning(Analysis.id)).all())
        return count

    def record_crash(self, video_id: int, most: int) -> bool:
        """Counts that a video killed the process that read it. True where that was once too often:
        the video is quarantined, and all that is asked of it ends as failed, whoever is at it."""
        with self._sessions.begin() as session:
            counted = update(Video).where(Video.id == video_id).values(crashes=Video.crashes + 1)
            crashes = session.scalar(counted.returning(Video.crashes))
            if crashes is None or crashes < most:
                return False
            error = Quarantined(
                f"it killed its process {crashes} times: look at the file, then run `videomind retry`"
            )
            code, message = leases.described(error)
            told = {"error_code": code, "error_message": message}
            session.execute(update(Video).where(Video.id == video_id).values(state="quarantined", **told))
            open_ones = and_(Analysis.video_id == video_id, Analysis.state.in_(("queued", "running")))
            ended = leases.end_all(session, Analysis, open_ones, state="failed", **told)
            _unanswered(session, ended)
            return True

    def orphan(self, holders: str) -> list[int]:
        """Ends the leases of processes that are gone. Gives the ids of the videos they worked on."""
        with self._sessions.begin() as session:
            ids = leases.orphan(session, Analysis, holders)
            return list(session.scalars(select(Analysis.video_id).where(Analysis.id.in_(ids)).distinct()))

    def holders(self) -> list[str]:
        """Who holds leases."""
        with self._sessions.begin() as session:
            return leases.holders(session, Analysis)

    def bury(self, most_attempts: int) -> Sequence[int]:
        """Ends as failed what was tried too often and has no living worker. Gives the ids."""
        with self._sessions.begin() as session:
            switching.lock_videos_of(session, leases.over(Analysis, most_attempts))
            _unanswered(session, leases.end_unwanted(session, Analysis))
            ids = leases.bury(session, Analysis, most_attempts)
            _unanswered(session, ids)
            return ids

    def outcomes(self, analysis_ids: Sequence[int]) -> list[Outcome]:
        """What became of these analyses, in the given order; ids that do not exist are left out."""
        with self._sessions.begin() as session:
            found = session.scalars(_whole().where(Analysis.id.in_(analysis_ids)))
            by_id = {row.id: rows.outcome_of(row) for row in found}
        return [by_id[analysis_id] for analysis_id in analysis_ids if analysis_id in by_id]

    def search(self, words: str, most: int = 20) -> list[Outcome]:
        """The analyses in whose question, query or answer all the words occur, the best first."""
        with self._sessions.begin() as session:
            ids = search.find(session, words, most)
        return self.outcomes(ids)


def _whole() -> Select[Analysis]:
    """Analyses with all that belongs to them, in a few statements however many there are."""
    return select(Analysis).options(
        joinedload(Analysis.video),
        joinedload(Analysis.answer),
        selectinload(Analysis.candidates),
        selectinload(Analysis.moments),
        selectinload(Analysis.coverage),
    )


def _unanswered(session: Session, analysis_ids: Sequence[int]) -> None:
    """What follows where analyses may have ended without a result."""
    coverage.cover(session, analysis_ids)
    switching.ended(session, analysis_ids)


def _release(session: Session, video_ids: Select[int]) -> None:
    """Ends the quarantine of the videos."""
    videos = select(Video).where(Video.id.in_(video_ids)).order_by(Video.id)
    for video in session.scalars(videos.with_for_update(key_share=True)).all():
        if video.state == "quarantined":
            video.state, video.crashes = "readable", 0
            video.error_code = video.error_message = None


def _cancel(session: Session, which: ColumnElement[bool]) -> None:
    waiting = and_(which, Analysis.state == "queued")
    switching.lock_videos_of(session, waiting)
    _unanswered(session, leases.end_all(session, Analysis, waiting, state="cancelled"))
    leases.ask_to_end(session, Analysis, and_(which, Analysis.state == "running"))
