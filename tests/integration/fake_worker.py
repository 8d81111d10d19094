"""The worker's Celery application with a model and a decoder that take no time: what is tried is the queue.

Started as `celery --app=tests.integration.fake_worker`; its children import it as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step, VideoFacts, Window
from worker import engine, ingest
from worker.celery_app import app

__all__ = ["app"]

# Spawned children import what the application includes.
app.conf.include = ["worker.tasks", "tests.integration.fake_worker"]

FINGERPRINT = os.environ.get("VIDEOMIND_FAKE_FINGERPRINT", "f" * 64)
SECONDS = 0.05  # that an answer takes
_FACTS = VideoFacts("", 60.0, 25.0, 1500, 64, 48, "h264", 0, 0.0)


class Mind:
    """Finds the same two moments everywhere."""

    fingerprint = FINGERPRINT

    @contextmanager
    def open(self, reader: object, content_hash: str) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(video=_FACTS, ask=self._ask)

    def prefetch(self, reader: object, content_hash: str) -> None:
        """There is nothing to decode."""

    def _ask(self, question: str, progress, **_: object) -> Result:
        progress("grounder", 0.2)
        time.sleep(SECONDS / 2)
        progress("answerer", 0.9)
        time.sleep(SECONDS / 2)
        found = (
            Candidate(Span(1, 2), 0.9, False, 0.2, 0.6, 0.4),
            Candidate(Span(5, 9), 0.5, False, 0.9, 0.1, 0.7),
        )
        return Result(
            question=question,
            mode="auto",
            options=(),
            plan=Plan((Step("grounder", question),)),
            query=question,
            candidates=found,
            moments=rank_moments(found, question),
            answer=Answer("yes", None, Span(5, 9)),
            video=_FACTS,
            fingerprint=FINGERPRINT,
            warnings=(),
            seconds={"total": SECONDS},
            windows=(Window(Span(0, 60), 120, 0.9),),
        )


@contextmanager
def _opened(path: Path, settings: object) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(info=_FACTS, recorded_at=None)


ingest.opened = _opened  # type: ignore[assignment]
engine.loaded = Mind  # type: ignore[assignment]
engine.fingerprint = lambda: FINGERPRINT
