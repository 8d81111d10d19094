"""The service: claims analyses, has the library answer them, stores what it found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from vm.errors import VideoError, VideoMindError
from worker.errors import DatabaseUnusable, WrongCheckpoint
from worker.interrupts import interrupts_held_back
from worker.jobs import Claim
from worker.media import local_path
from worker.store import Store

if TYPE_CHECKING:
    from vm import VideoMind, Watched
    from vm.result import Result

log = logging.getLogger(__name__)

Report = Callable[[Claim, str, float], None]
"""Called with the claim, the stage's name and its fraction done, 0 to 1."""


def run(analysis_ids: Sequence[int], mind: VideoMind, store: Store, report: Report) -> None:
    """Answers those of the analyses that can be claimed, all questions on one video together.

    Every claimed analysis ends as succeeded or failed; an interruption hands the rest back.

    Raises:
        DatabaseUnusable: the database stopped answering. What was claimed is handed back if it still
            can be, and else counts as abandoned after a while.
    """
    claims: list[Claim] = []
    try:
        with interrupts_held_back():  # what is claimed must be known, to be handed back
            claims = store.claim(analysis_ids)
        for _, together in groupby(claims, key=attrgetter("video_id")):
            _watch(list(together), mind, store, report)
    except BaseException:
        store.release(claims)
        raise


def _watch(claims: Sequence[Claim], mind: VideoMind, store: Store, report: Report) -> None:
    with ExitStack() as stack:
        try:
            watched = stack.enter_context(mind.open(local_path(claims[0].uri)))
        except Exception as error:
            if isinstance(error, VideoError):
                store.record_unreadable(claims[0].video_id, error)
            for claim in claims:
                _fail(claim, error, store)
            return
        store.record_facts(claims[0].video_id, watched.video)
        for claim in claims:
            _answer(claim, watched, mind.fingerprint, store, report)


def _answer(claim: Claim, watched: Watched, fingerprint: str, store: Store, report: Report) -> None:
    try:
        if not store.finish(claim, _ask(claim, watched, fingerprint, report)):
            log.warning("analysis %d was taken over meanwhile; the result is dropped", claim.analysis_id)
    except DatabaseUnusable:
        raise
    except Exception as error:
        _fail(claim, error, store)


def _ask(claim: Claim, watched: Watched, fingerprint: str, report: Report) -> Result:
    if claim.fingerprint != fingerprint:
        raise WrongCheckpoint(
            f"asked of checkpoint {claim.fingerprint}, but {fingerprint} is loaded: start a worker with "
            "the former, or submit the question again"
        )
    request = claim.request
    return watched.ask(
        request.question,
        mode=request.mode,
        options=request.options,
        window=request.settings.window,
        min_answer_seconds=request.settings.min_answer_seconds,
        progress=partial(report, claim),
    )


def _fail(claim: Claim, error: Exception, store: Store) -> None:
    if not isinstance(error, VideoMindError):
        log.error("unforeseen failure of analysis %d", claim.analysis_id, exc_info=error)
    if not store.fail(claim, error):
        log.warning("analysis %d was taken over meanwhile; its failure is dropped", claim.analysis_id)
