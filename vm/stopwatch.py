"""Seconds spent per stage. Stages may nest; each is counted without what nests in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """`clock` returns seconds; tests pass their own."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._running: list[str] = []
        self._since = 0.0
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        self._book()
        self._running.append(stage)
        try:
            yield
        finally:
            self._book()
            self._running.pop()

    def lap(self) -> dict[str, float]:
        """Seconds per stage since the last lap, and their sum as `total`."""
        seconds, self._seconds = self._seconds, {}
        return {**seconds, "total": sum(seconds.values())}

    def _book(self) -> None:
        now = self._clock()
        if self._running:
            stage = self._running[-1]
            self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._since
        self._since = now
