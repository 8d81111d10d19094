"""Keeps archives fresh: starts the runs whose time has come, gives the queue what they want asked next."""

from __future__ import annotations

import logging
from collections.abc import Callable

from worker.store import Store

log = logging.getLogger(__name__)


def tend(store: Store, fingerprint: Callable[[], str]) -> None:
    """Harmless twice, and at the same time.

    Args:
        fingerprint: tells that of the checkpoint at hand. Asked only where there is something to do.

    Raises:
        CheckpointError: it cannot be used.
    """
    if store.schedules.any_due():
        for run_id in store.schedules.start_due(fingerprint()):
            log.info("re-indexing run %d has started by its schedule", run_id)
    if store.reindex.is_running():
        store.reindex.feed(fingerprint())
