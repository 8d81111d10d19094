"""The embedded default: everything in this process, with the same services and the same rows as elsewhere."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from vm.errors import VideoError
from worker import engine, schema
from worker.analysis import Analyst
from worker.ingest import Registrar
from worker.jobs import Claim, Outcome, Progress, Request, Submission
from worker.settings import current
from worker.store import Store
from worker.sweep import let_go_of_the_dead, sweep

_PAUSE = 1.0  # seconds between two looks at an empty queue

Report = Callable[[str, float], None]
"""Called with what is being done and its fraction done, 0 to 1."""


def prepare() -> None:
    """Sets up a new embedded database and loads the model, so that both are known to work.

    Raises:
        DatabaseUnusable: or StaleSchema, which names the command to run.
        CheckpointError: the checkpoint cannot be used.
    """
    schema.prepare(current().database_url)
    engine.loaded()


def answer(video: Path, requests: Sequence[Request], report: Report) -> list[Outcome]:
    """One video's analyses, each new, repeated after a failure, or as it was answered before.

    Raises:
        VideoError: there is no such file to read, or it is no video.
        DatabaseUnusable: the database stopped answering.
    """
    report("reading", 0.0)
    once = current().changed(max_attempts=0)  # who waits for it decides whether to try again
    key, mind = uuid.uuid4().hex, engine.loaded()
    with Store(current().database_url) as store:
        let_go_of_the_dead(store)
        submission = Submission(key, video.absolute().as_uri(), tuple(requests))
        accepted = store.submissions.add(submission)
        ids = Registrar(store, once, mind.fingerprint).work(accepted.submission_id)
        if not ids:
            raise _refusal(store, accepted.submission_id)

        def told(_: Claim, reached: Progress) -> None:
            report(reached.stage, reached.fraction)

        Analyst(mind, store, once, told).work(list(dict.fromkeys(ids)))
        return store.analyses.outcomes(ids)


def drain(stop: threading.Event, forever: bool) -> None:
    """Works through an embedded queue: takes in what was submitted, answers it, and tells who wants to know.

    Args:
        stop: ends it between two videos.
        forever: wait for more when nothing is left.
    """
    with Store(current().database_url) as store:
        mind = engine.loaded()
        registrar = Registrar(store, current(), mind.fingerprint)
        analyst = Analyst(mind, store, current(), lambda *_: None)
        swept = -math.inf
        while not stop.is_set():
            if time.monotonic() - swept > current().sweep_seconds:
                sweep(store, current())
                swept = time.monotonic()
            worked = registrar.work() is not None
            if analyst.work() or worked:
                continue
            if forever or not store.queues.is_empty(mind.fingerprint):
                stop.wait(_PAUSE)
                continue
            sweep(store, current())  # nobody else may come to tell of what has just ended
            if store.queues.is_empty(mind.fingerprint):
                return


def _refusal(store: Store, submission_id: int) -> VideoError:
    """Why a submission's video was not taken in, as it is stored."""
    arrival = store.queues.arrivals(submission_ids=[submission_id])[0]
    error = VideoError(arrival.error_message or f"{arrival.uri}: {arrival.state}")
    error.code = arrival.error_code or error.code
    return error
