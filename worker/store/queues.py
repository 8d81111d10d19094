"""How much is waiting, how far what runs is, and what has failed: for people, metrics and the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import exists, func, or_, select

from worker.errors import UnknownJob
from worker.jobs import State
from worker.store import leases
from worker.store.sessions import Sessions
from worker.tables import Analysis, RequestRow, Submission, Video


@dataclass(frozen=True)
class Depth:
    """What waits in one queue. `oldest` is the age in seconds of what has waited longest, 0 for none."""

    waiting: int
    running: int
    oldest: float


@dataclass(frozen=True)
class Standing:
    """How far one analysis is; `eta` is when it will have ended, as far as that can be told."""

    analysis_id: int
    uri: str
    question: str
    state: State
    stage: str | None
    progress: float
    eta: datetime | None
    attempts: int
    error_code: str | None
    error_message: str | None
    submitted_at: datetime
    started_at: datetime | None


@dataclass(frozen=True)
class Arrival:
    """How far the fetching of one submission's video is."""

    submission_id: int
    uri: str
    state: State
    attempts: int
    error_code: str | None
    error_message: str | None


class Queues:
    """Looks at all queues at once."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def depths(self) -> dict[str, Depth]:
        """By queue: submissions to fetch, analyses to make."""
        found = {}
        with self._sessions.begin() as session:
            moment = leases.now(session)
            for name, job in (("ingest", Submission), ("analyse", Analysis)):
                open_ones = select(job.state, func.count()).where(job.state.in_(("queued", "running")))
                counts = dict(session.execute(open_ones.group_by(job.state)).all())
                oldest = session.scalar(select(func.min(job.submitted_at)).where(job.state == "queued"))
                age = (moment - oldest).total_seconds() if oldest else 0.0
                found[name] = Depth(counts.get("queued", 0), counts.get("running", 0), max(0.0, age))
        return found

    def ready(self, most_attempts: int) -> tuple[int, int]:
        """How many submissions, and how many videos' analyses, a worker could take just now."""
        with self._sessions.begin() as session:
            submissions = select(func.count()).where(leases.claimable(Submission, most_attempts))
            videos = select(func.count(Analysis.video_id.distinct())).where(
                leases.claimable(Analysis, most_attempts)
            )
            return session.scalar(submissions) or 0, session.scalar(videos) or 0

    def is_empty(self, fingerprint: str) -> bool:
        """Whether nothing waits or runs: no submission, and no analysis asked of this checkpoint."""
        open_ones = ("queued", "running")
        asked = exists().where(Analysis.state.in_(open_ones), Analysis.fingerprint == fingerprint)
        with self._sessions.begin() as session:
            submitted = exists().where(Submission.state.in_(open_ones))
            return not session.scalar(select(or_(submitted, asked)))

    def standings(
        self, states: Sequence[State] = (), submission_ids: Sequence[int] = (), most: int = 100
    ) -> list[Standing]:
        """The analyses in these states (all states where none is named), the latest first."""
        query = select(Analysis, Video.uri).join(Video).order_by(Analysis.id.desc()).limit(most)
        if states:
            query = query.where(Analysis.state.in_(states))
        if submission_ids:
            asked = select(RequestRow.analysis_id).where(RequestRow.submission_id.in_(submission_ids))
            query = query.where(Analysis.id.in_(asked))
        with self._sessions.begin() as session:
            return [_standing(row, uri) for row, uri in session.execute(query)]

    def arrivals(
        self, states: Sequence[State] = (), submission_ids: Sequence[int] = (), most: int = 100
    ) -> list[Arrival]:
        """The submissions in these states (all states where none is named), the latest first."""
        query = select(Submission).order_by(Submission.id.desc()).limit(most)
        if states:
            query = query.where(Submission.state.in_(states))
        if submission_ids:
            query = query.where(Submission.id.in_(submission_ids))
        with self._sessions.begin() as session:
            return [_arrival(row) for row in session.scalars(query)]

    def check_known(self, submission_ids: Sequence[int], analysis_ids: Sequence[int]) -> None:
        """Raises: UnknownJob naming the first id that no row has."""
        with self._sessions.begin() as session:
            for job, ids in ((Submission, submission_ids), (Analysis, analysis_ids)):
                known = set(session.scalars(select(job.id).where(job.id.in_(ids)))) if ids else set()
                if unknown := [id for id in ids if id not in known]:
                    name = job.__name__.lower()
                    raise UnknownJob(f"there is no {name} {unknown[0]}: `videomind status` shows their ids")

    def failures(self) -> dict[str, int]:
        """How many analyses and submissions have failed, by error code."""
        found: dict[str, int] = {}
        with self._sessions.begin() as session:
            for job in (Submission, Analysis):
                counted = select(job.error_code, func.count()).where(job.state == "failed")
                for code, count in session.execute(counted.group_by(job.error_code)):
                    found[code or "unknown"] = found.get(code or "unknown", 0) + count
        return found


def _standing(row: Analysis, uri: str) -> Standing:
    return Standing(
        row.id,
        uri,
        row.question,
        row.state,
        row.stage,
        row.progress,
        row.eta,
        row.attempts,
        row.error_code,
        row.error_message,
        row.submitted_at,
        row.started_at,
    )


def _arrival(row: Submission) -> Arrival:
    return Arrival(row.id, row.uri, row.state, row.attempts, row.error_code, row.error_message)
