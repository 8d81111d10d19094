"""Repairs what brokers and dead workers forget: looks at the database, wakes for what it finds waiting."""

from __future__ import annotations

import logging

from vm.errors import CheckpointError
from worker import archive, broker, callbacks, deliveries, engine, holder
from worker.celery_app import ANALYSE, FETCH
from worker.errors import BrokerUnusable, InvalidRule
from worker.settings import Settings
from worker.store import Store

log = logging.getLogger(__name__)


def let_go_of_the_dead(store: Store) -> None:
    """Ends the leases of processes of this host that are gone, which would else run out by themselves."""
    for jobs in (store.submissions, store.analyses):
        for name in filter(holder.is_dead, jobs.holders()):
            jobs.orphan(name)


def sweep(store: Store, settings: Settings) -> None:
    """Ends what was tried too often, makes the calls that are due, wakes for all that could be done.

    Harmless twice, and at the same time: it wakes for as many as the broker has no message for, and whoever
    is woken in vain finds nothing to claim.
    """
    let_go_of_the_dead(store)
    most = settings.max_attempts
    for analysis_id in store.analyses.bury(most):
        log.error("analysis %d was given up: its worker was lost %d times", analysis_id, most)
    for submission_id in store.submissions.bury(most):
        log.error("submission %d was given up: its worker was lost %d times", submission_id, most)
    _tend(store)
    submissions, videos = store.queues.ready(most)
    for queue, ready in ((FETCH, submissions), (ANALYSE, videos)):
        try:
            broker.wake(queue, max(0, ready - broker.waiting(queue)))
        except BrokerUnusable as error:
            log.warning("%s", error)
    callbacks.make_due(store, settings)
    deliveries.make_due(store, settings)


def _tend(store: Store) -> None:
    """A checkpoint or a run that cannot be used is no reason to leave the rest undone."""
    try:
        archive.tend(store, engine.fingerprint)
    except (CheckpointError, InvalidRule) as error:
        log.error("nothing is asked anew: %s", error)
