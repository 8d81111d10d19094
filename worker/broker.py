"""Wakes workers up. Messages carry no work: what is to be done is in the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kombu import Producer
from kombu.exceptions import OperationalError

from worker.celery_app import ANALYSE, FETCH, app
from worker.errors import BrokerUnusable

log = logging.getLogger(__name__)

_TASKS = {FETCH: "videomind.fetch", ANALYSE: "videomind.analyse"}


class _Ways(threading.local):
    """Each thread's own ways to brokers. To take one from Celery's pool for a message, and to give it back,
    takes as long as to send it."""

    def __init__(self) -> None:
        self.by_url: dict[str, Producer] = {}


_ways = _Ways()


def wake(queue: str, count: int = 1) -> None:
    """Has a worker of this queue look for work, so many times. Without a broker nobody needs waking.

    A broker that does not answer is no error here: the sweep wakes later for what is in the database.
    """
    if not app.conf.broker_url:
        return
    try:
        with _translated():
            for _ in range(count):
                app.send_task(
                    _TASKS[queue], retry=False, ignore_result=True, add_to_parent=False, producer=_producer()
                )
    except BrokerUnusable as error:
        _ways.by_url.clear()  # the next one finds a new way
        log.warning("nobody was woken: %s", error)


def _producer() -> Producer:
    url = app.conf.broker_url
    if url not in _ways.by_url:
        _ways.by_url[url] = app.amqp.Producer(app.connection_for_write(), auto_declare=False)
    return _ways.by_url[url]


def waiting(queue: str) -> int:
    """Messages in a queue that no worker has taken; none where there is no broker.

    Raises:
        BrokerUnusable: the broker does not answer.
    """
    if not app.conf.broker_url:
        return 0
    with _translated(), app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        channel = connection.default_channel
        return int(channel.queue_declare(queue=queue, passive=False, durable=True).message_count)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, OSError) as error:
        raise BrokerUnusable(f"the broker does not answer ({error}): is Redis running?") from error
