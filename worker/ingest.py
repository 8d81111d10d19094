"""The service that takes in: fetches a submitted video, checks it, and registers it with its questions."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from vm.errors import VideoError
from worker import holder, metrics
from worker.errors import Cancelled, DatabaseUnusable, LeaseLost
from worker.heartbeat import Heartbeat, Pace
from worker.interrupts import interrupts_held_back
from worker.jobs import Intake
from worker.logs import about
from worker.recording import recorded_at
from worker.settings import Settings
from worker.sources.fetch import Fetched, fetch
from worker.sources.rules import SourceRules
from worker.sources.scratch import Scratch
from worker.store import Checked, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from vm.video import IsolatedReader

log = logging.getLogger(__name__)


class Registrar:
    """Takes in one submission after the other.

    Args:
        fingerprint: of the checkpoint that is to answer.
    """

    def __init__(self, store: Store, settings: Settings, fingerprint: str) -> None:
        self._store, self._settings, self._fingerprint = store, settings, fingerprint

    def work(self, submission_id: int | None = None) -> list[int] | None:
        """Takes in the submission that is next, or a given one if it is free.

        Returns:
            The analyses that answer it, in its questions' order, none where it failed; None where there was
            nothing to do.

        Raises:
            DatabaseUnusable: the database stopped answering.
        """
        intake: Intake | None = None
        try:
            with interrupts_held_back():  # what is claimed must be known, to be handed back
                intake = self._claim(submission_id)
            if intake is None:
                return None
            with about(submission_id=intake.lease.id):
                return self._take_in(intake)
        except BaseException:
            if intake:
                self._store.submissions.give_back(intake)
            raise

    def _claim(self, submission_id: int | None) -> Intake | None:
        submissions, who, lease = self._store.submissions, holder.name(), self._settings.lease
        if submission_id is not None:
            return submissions.claim_one(submission_id, who, lease)
        return submissions.claim(who, lease, self._settings.max_attempts)

    def _take_in(self, intake: Intake) -> list[int]:
        try:
            with self._heartbeat(intake) as heartbeat:
                checked = self._check(intake, heartbeat.moved)
                registered = self._store.intakes.register(intake, checked, self._fingerprint)
        except (DatabaseUnusable, LeaseLost):
            raise
        except Cancelled:
            self._store.submissions.end_cancelled(intake)
            return []
        except Exception as error:
            log.error("failed: %s", error, exc_info=None if hasattr(error, "code") else error)
            metrics.count_failure(error)
            self._store.submissions.fail(intake, error, self._settings.max_attempts)
            return []
        if registered is None:
            log.warning("taken over meanwhile; what was found is dropped")
        return registered or []

    def _heartbeat(self, intake: Intake) -> Heartbeat:
        def renew() -> bool:
            return self._store.submissions.renew(intake.lease, self._settings.lease)

        return Heartbeat(renew, self._settings.lease_seconds, self._settings.stalled_seconds)

    def _check(self, intake: Intake, moved: Callable[[], None]) -> Checked:
        submission = intake.submission
        pace = Pace()

        def progress(*_: object) -> None:
            moved()
            if pace.is_due() and self._store.submissions.is_cancelled(intake.lease):
                raise Cancelled("cancelled while it was fetched")

        with metrics.timed("fetch"), fetched(submission.uri, self._settings, None, progress) as found:
            try:
                with metrics.timed("check"), opened(found.path, self._settings) as reader:
                    facts, told = reader.info, reader.recorded_at
            except VideoError as error:
                self._store.intakes.record_unreadable(intake, found.sha256, found.size_bytes, error)
                raise
            pattern, zone = self._store.sources.naming(submission)
            known = recorded_at(submission.recorded_at, found.name, pattern, zone, told)
            return Checked(found.sha256, found.size_bytes, facts, *(known or (None, None)))


def fetched(
    uri: str, settings: Settings, sha256: str | None, progress: Callable[..., None] | None = None
) -> AbstractContextManager[Fetched]:
    """A video as a local file, for as long as the context lasts.

    Args:
        sha256: what its content is known to be; None to find out.

    Raises:
        VideoError: it is not there, not allowed, or does not answer.
    """
    rules = SourceRules(
        roots=settings.media_roots,
        allowed_networks=settings.allowed_networks,
        max_bytes=settings.max_bytes,
        max_seconds=settings.fetch_seconds,
    )
    return fetch(uri, rules, _scratch(settings.scratch, settings.scratch_bytes), sha256, progress)


_scratch = cache(Scratch)  # looks for what crashed processes have left when it is made, and at each download


def opened(path: Path, settings: Settings) -> IsolatedReader:
    """A local file, read in a process of its own with bounded memory.

    Raises:
        VideoError: it is no video, or not one that may be read.
    """
    from vm.video import Cage, open_isolated

    return open_isolated(path, cage=Cage(memory_bytes=settings.decoder_bytes))
