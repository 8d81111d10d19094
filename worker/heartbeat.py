"""Keeps leases alive while their work goes on, and only while it goes on."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from types import TracebackType

from worker.errors import LeaseLost

log = logging.getLogger(__name__)


LOOK_SECONDS = 1.0
"""Between two times that progress is kept, and that it is looked whether somebody wants the work to end."""


class Pace:
    """Says when to look again. There is progress far more often, and every look is a transaction."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last look, or the beginning, is long enough ago; then this is the next one."""
        moment = time.monotonic()
        if moment - self._last < LOOK_SECONDS:
            return False
        self._last = moment
        return True


class Heartbeat:
    """Renews in the background, four times a lease. A context manager.

    The background outlives work that hangs, so it stops once there was no progress for too long: then the
    lease runs out and somebody else takes over.

    Args:
        renew: renews; False where the work is no longer ours. What it raises counts as a miss.
        lease: seconds a lease lasts.
        patience: seconds without progress after which it is let go.
    """

    def __init__(self, renew: Callable[[], bool], lease: float, patience: float) -> None:
        self._renew, self._patience = renew, patience
        self.pause = lease / 4
        self._moved = time.monotonic()
        self._is_over = self._is_lost = False
        self._beating = threading.Lock()

    def moved(self) -> None:
        """There was progress.

        Raises:
            LeaseLost: somebody else has the work by now; what comes of it will not be taken.
        """
        self._moved = time.monotonic()
        if self._is_lost:
            raise LeaseLost("another worker has taken this over: the lease ran out")

    def beat(self) -> bool:
        """Renews once. False where that was the last time."""
        with self._beating:
            if self._is_over:
                return False
            if time.monotonic() - self._moved > self._patience:
                log.error("no progress for %.0f s: letting the lease run out", self._patience)
                return False
            try:
                self._is_lost = not self._renew()
            except Exception as error:
                log.warning("a lease could not be renewed: %s", error)
            return not self._is_lost

    def __enter__(self) -> Heartbeat:
        _heart().add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._beating:  # from here on nothing is renewed
            self._is_over = True


class _Heart:
    """The thread in which all heartbeats of a process beat: starting one for each would take longer than what
    it is for in short work."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Heartbeat]] = []  # a heap
        self._count = itertools.count()  # no two heartbeats are compared
        self._changed = threading.Condition()
        threading.Thread(target=self._beat_on, name="heartbeat", daemon=True).start()

    def add(self, heartbeat: Heartbeat) -> None:
        with self._changed:
            is_next = self._push(heartbeat)
            if is_next:
                self._changed.notify()

    def _push(self, heartbeat: Heartbeat) -> bool:
        entry = (time.monotonic() + heartbeat.pause, next(self._count), heartbeat)
        heapq.heappush(self._due, entry)
        return self._due[0] is entry

    def _beat_on(self) -> None:
        while True:
            heartbeat = self._next()
            if heartbeat.beat():
                with self._changed:
                    self._push(heartbeat)

    def _next(self) -> Heartbeat:
        """The next that is due. Waits until it is."""
        with self._changed:
            while True:
                left = self._due[0][0] - time.monotonic() if self._due else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(left)


@cache
def _heart() -> _Heart:
    return _Heart()


os.register_at_fork(after_in_child=_heart.cache_clear)  # threads do not go along
