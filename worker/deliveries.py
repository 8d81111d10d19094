"""Tells webhooks of hits: a signed POST, at least once, again after growing delays, given up in the end.

A receiver knows an event again by its id, and a request that somebody recorded and sends again by the time
that is signed with it. So it can tell that a request is ours, is new, and is the first of its event:

    X-VideoMind-Event: the event's id
    X-VideoMind-Timestamp: seconds since 1970 at which it was sent
    X-VideoMind-Signature: sha256=HMAC-SHA256(secret, timestamp + "." + body), in hexadecimal
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from datetime import timedelta

from pydantic import SecretStr

from worker.errors import InvalidSettings
from worker.settings import Settings
from worker.sources.posting import encoded, send
from worker.sources.rules import SourceRules
from worker.store import Store
from worker.store.hits import Delivery

log = logging.getLogger(__name__)

SECRET = "VIDEOMIND_WEBHOOK_SECRET"  # noqa: S105 - the name of the setting
_SECONDS = 10.0  # that a receiver may take
_MOST = 100  # deliveries in one go, so that a sweep ends


def make_due(store: Store, settings: Settings) -> None:
    """Makes the deliveries that are due. A receiver that fails is left alone until the next time, so that it
    keeps no other one waiting."""
    rules = SourceRules(allowed_networks=settings.allowed_networks, max_seconds=_SECONDS)
    failing: set[int] = set()
    for _ in range(_MOST):
        delivery = store.hits.take_due(timedelta(seconds=6 * _SECONDS), failing)
        if delivery is None:
            return
        try:
            _deliver(delivery, settings.webhook_secret, rules)
        except Exception as error:
            log.warning("hit %d was not delivered: %s", delivery.hit.id, error)
            store.hits.undelivered(delivery, str(error))
            failing.add(delivery.hit.standing_id)
        else:
            store.hits.delivered(delivery)


def signature(secret: SecretStr, timestamp: str, body: bytes) -> str:
    """What proves to a receiver who knows the secret who sent a body, and when."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()


def _deliver(delivery: Delivery, secret: SecretStr | None, rules: SourceRules) -> None:
    if secret is None:
        raise InvalidSettings(f"{SECRET} is not set here: set it wherever a sweep may run")
    body, timestamp = encoded(delivery.hit.told()), str(int(time.time()))
    headers = {
        "X-VideoMind-Event": delivery.hit.event_id,
        "X-VideoMind-Timestamp": timestamp,
        "X-VideoMind-Signature": signature(secret, timestamp, body),
    }
    send(delivery.url, body, rules, headers)
