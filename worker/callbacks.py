"""Tells producers that their submissions have ended: a POST, at least once, again after growing delays."""

from __future__ import annotations

import logging
from datetime import timedelta

from worker.settings import Settings
from worker.sources.posting import post
from worker.sources.rules import SourceRules
from worker.store import Store

log = logging.getLogger(__name__)

_SECONDS = 10.0  # that a receiver may take
_MOST = 100  # calls in one go, so that a sweep ends


def make_due(store: Store, settings: Settings) -> None:
    """Makes the calls that are due."""
    rules = SourceRules(allowed_networks=settings.allowed_networks, max_seconds=_SECONDS)
    for _ in range(_MOST):
        call = store.callbacks.take_due(timedelta(seconds=6 * _SECONDS))
        if call is None:
            return
        try:
            post(call.url, call.body, rules)
        except Exception as error:
            log.warning("submission %d: its callback failed: %s", call.submission_id, error)
            store.callbacks.undelivered(call, str(error))
        else:
            store.callbacks.delivered(call)
