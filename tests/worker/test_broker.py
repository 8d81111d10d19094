from collections.abc import Iterator

import pytest

from worker import broker
from worker.celery_app import ANALYSE, FETCH, INGEST, SWEEP, app


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


def test_each_kind_of_work_waits_by_itself(redis: None):
    app.send_task("videomind.submit", kwargs={}, queue=INGEST)
    app.send_task("videomind.sweep")
    broker.wake(FETCH, 3)
    broker.wake(ANALYSE, 2)
    queues = {INGEST: 1, SWEEP: 1, FETCH: 3, ANALYSE: 2}
    assert {queue: broker.waiting(queue) for queue in queues} == queues
    assert _taken(3, FETCH) == ["videomind.fetch"] * 3
    assert _taken(1, SWEEP) == ["videomind.sweep"]
