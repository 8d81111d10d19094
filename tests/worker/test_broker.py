from collections.abc import Iterator

import pytest

from worker import broker
from worker.celery_app import INGEST, SWEEP, app


@pytest.fixture
def redis(redis_url: str) -> Iterator[None]:
    """The program's own broker."""
    app.conf.broker_url = redis_url
    yield
    app.pool.force_close_all()
    app.conf.broker_url = None


def _taken(count: int, *queues: str) -> list[str]:
    """The tasks of the next messages, in the order in which a worker of the queues takes them."""
    found: list[str] = []

    def take(body: object, message) -> None:
        found.append(message.headers["task"])
        message.ack()

    with app.connection_for_read() as connection:
        served = [app.amqp.queues[queue] for queue in queues]
        consumer = connection.Consumer(served, callbacks=[take], accept=["json"])
        consumer.qos(prefetch_count=1)
        with consumer:
            while len(found) < count:
                connection.drain_events(timeout=10)
    return found


def test_what_is_submitted_goes_before_what_is_to_be_fetched_which_takes_turns_with_sweeps(redis: None):
    broker.wake(INGEST, 3)
    app.send_task("videomind.submit", kwargs={})
    assert broker.waiting(INGEST) == 4
    assert _taken(4, INGEST) == ["videomind.submit", *["videomind.ingest"] * 3]
    for _ in range(3):
        app.send_task("videomind.sweep")
    broker.wake(INGEST, 3)
    assert set(_taken(6, INGEST, SWEEP)[:2]) == {"videomind.sweep", "videomind.ingest"}
