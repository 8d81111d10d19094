"""The service that answers: claims analyses, has the library answer them, stores what it found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from vm.errors import DecoderCrashed
from worker import holder, metrics
from worker.errors import Cancelled, DatabaseUnusable, LeaseLost
from worker.heartbeat import Heartbeat, Pace
from worker.interrupts import interrupts_held_back
from worker.jobs import NORMAL, Claim, Progress
from worker.logs import about
from worker.lookahead import Lookahead
from worker.settings import Settings
from worker.store import Store

if TYPE_CHECKING:
    from vm import VideoMind, Watched
    from vm.result import Result

log = logging.getLogger(__name__)

MOST_CRASHES = 2
"""A video that kills its process so often is not touched again."""

_PAUSE = 1.0  # seconds between two tries to store what was found

Report = Callable[[Claim, Progress], None]


class Analyst:
    """One model, at work on whatever is asked for.

    Args:
        report: told of progress, beside the row.
    """

    def __init__(
        self,
        mind: VideoMind,
        store: Store,
        settings: Settings,
        report: Report,
    ) -> None:
        self._mind, self._store, self._settings, self._report = mind, store, settings, report
        self._lookahead = Lookahead(mind, store, settings)  # reads the next video meanwhile

    def work(self, analysis_ids: Sequence[int] | None = None) -> bool:
        """Answers the questions on the video that is next, or those of the given analyses that are free.

        Every claimed analysis ends, or waits for another try; an interruption hands the rest back. False
        where there was nothing to do.

        Raises:
            DatabaseUnusable: the database stopped answering. What was claimed is handed back if it still
                can be, and else is free again once its lease has run out.
        """
        claims: list[Claim] = []
        try:
            with interrupts_held_back():  # what is claimed must be known, to be handed back
                claims = self._claim(analysis_ids)
            for _, together in groupby(claims, key=attrgetter("video_id")):
                self._watch(list(together), looks_ahead=analysis_ids is None)
            if any(claim.priority < NORMAL for claim in claims):
                self._store.analyses.give_back(claims)
        except BaseException:
            self._store.analyses.give_back(claims)
            raise
        return bool(claims)

    def _claim(self, analysis_ids: Sequence[int] | None) -> list[Claim]:
        analyses, lease, who = self._store.analyses, self._settings.lease, holder.name()
        fingerprint = self._mind.fingerprint
        if analysis_ids is not None:
            return analyses.claim_these(analysis_ids, who, fingerprint, lease)
        claim = partial(analyses.claim, who, fingerprint, lease, self._settings.max_attempts)
        # Re-indexing gives the queue the next it wants asked when nothing else waits.
        return claim() or (claim() if self._store.reindex.feed(fingerprint) else [])

    def _watch(self, claims: Sequence[Claim], looks_ahead: bool) -> None:
        """All questions on one video, whose frames, features and prefixes they share.

        Args:
            looks_ahead: open the video that comes next meanwhile, which whoever asks for chosen analyses has
                no use for.
        """
        first = claims[0]
        pace = Pace()
        with self._heartbeat(claims) as heartbeat, ExitStack() as stack:
            try:
                reader = stack.enter_context(self._lookahead.opened(first.uri, first.sha256))
                watched = stack.enter_context(self._mind.open(reader, content_hash=first.sha256))
            except DatabaseUnusable:
                raise
            except Exception as error:
                for claim in claims:
                    self._fail(claim, error)
                self._count_crash(first, error)
                return
            if looks_ahead:
                self._lookahead.begin()
            for claim in claims:
                if claim.priority < NORMAL and looks_ahead and self._is_outranked(claim):
                    return  # what is not answered yet is handed back
                with about(analysis_id=claim.analysis_id):
                    self._answer(claim, watched, heartbeat, pace)

    def _is_outranked(self, claim: Claim) -> bool:
        """Whether live work waits, which goes before all that is done in the background."""
        most = self._settings.max_attempts
        return self._store.analyses.is_outranked(claim.priority, claim.fingerprint, most)

    def _heartbeat(self, claims: Sequence[Claim]) -> Heartbeat:
        """Keeps the leases of all that is still to be answered; one that is lost does not stop the others."""
        leases = [claim.lease for claim in claims]
        renew = partial(self._store.analyses.renew, leases, self._settings.lease)
        return Heartbeat(lambda: bool(renew()), self._settings.lease_seconds, self._settings.stalled_seconds)

    def _answer(self, claim: Claim, watched: Watched, heartbeat: Heartbeat, pace: Pace) -> None:
        try:
            result = self._ask(claim, watched, heartbeat, pace)
            if not self._finish(claim, result):
                log.warning("taken over meanwhile; the result is dropped")
                return
            metrics.count_result(result)
        except (DatabaseUnusable, LeaseLost):
            raise
        except Cancelled:
            self._store.analyses.end_cancelled(claim)
        except Exception as error:
            self._fail(claim, error)
            self._count_crash(claim, error)

    def _ask(self, claim: Claim, watched: Watched, heartbeat: Heartbeat, pace: Pace) -> Result:
        begun = time.monotonic()

        def progress(stage: str, fraction: float) -> None:
            heartbeat.moved()
            reached = Progress.after(time.monotonic() - begun, stage, fraction)
            if pace.is_due() and self._is_unwanted(claim, reached):
                raise Cancelled(f"analysis {claim.analysis_id} was cancelled")
            self._report(claim, reached)

        request = claim.request
        return watched.ask(
            request.question,
            mode=request.mode,
            options=request.options,
            subtitles=request.subtitles,
            window=request.settings.window,
            min_answer_seconds=request.settings.min_answer_seconds,
            progress=progress,
        )

    def _is_unwanted(self, claim: Claim, reached: Progress) -> bool:
        """Keeps how far it is, and tells whether somebody asked for its end. A database that is away is no
        reason to end what takes long."""
        try:
            return self._store.analyses.report(claim.lease, reached)
        except DatabaseUnusable as error:
            log.warning("progress could not be kept: %s", error)
            return False

    def _finish(self, claim: Claim, result: Result) -> bool:
        """Stores what was found. A database that is away is waited for, as long as a lease lasts."""
        until = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                return self._store.analyses.finish(claim, result)
            except DatabaseUnusable as error:
                if time.monotonic() > until:
                    raise
                log.warning("what was found waits for the database: %s", error)
            time.sleep(_PAUSE)

    def _fail(self, claim: Claim, error: Exception) -> None:
        with about(analysis_id=claim.analysis_id):
            log.error("failed: %s", error, exc_info=None if hasattr(error, "code") else error)
            metrics.count_failure(error)
            if not self._store.analyses.fail(claim, error, self._settings.max_attempts):
                log.warning("taken over meanwhile; the failure is dropped")

    def _count_crash(self, claim: Claim, error: Exception) -> None:
        """Once for each process that the video killed, however many questions that cost."""
        crashed = isinstance(error, DecoderCrashed)
        if crashed and self._store.analyses.record_crash(claim.video_id, MOST_CRASHES):
            log.error("the video of analysis %d is quarantined", claim.analysis_id)
