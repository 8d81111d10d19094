"""Keeps leases alive while their work goes on, and only while it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
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
    """Renews from a thread of its own, four times a lease. A context manager.

    A thread outlives work that hangs, so it stops once there was no progress for too long: then the lease
    runs out and somebody else takes over.

    Args:
        renew: renews; False where the work is no longer ours. What it raises counts as a miss.
        lease: seconds a lease lasts.
        patience: seconds without progress after which it is let go.
    """

    def __init__(self, renew: Callable[[], bool], lease: float, patience: float) -> None:
        self._renew, self._pause, self._patience = renew, lease / 4, patience
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def moved(self) -> None:
        """There was progress.

        Raises:
            LeaseLost: somebody else has the work by now; what comes of it will not be taken.
        """
        self._moved = time.monotonic()
        if self._lost.is_set():
            raise LeaseLost("another worker has taken this over: the lease ran out")

    def _beat(self) -> None:
        while not self._over.wait(self._pause):
            if time.monotonic() - self._moved > self._patience:
                log.error("no progress for %.0f s: letting the lease run out", self._patience)
                return
            try:
                if not self._renew():
                    self._lost.set()
                    return
            except Exception as error:
                log.warning("a lease could not be renewed: %s", error)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
