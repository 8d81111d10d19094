from collections.abc import Iterator
from threading import Thread

import pytest

from tests import servers
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


def test_a_broker_that_was_away_loses_what_was_sent_meanwhile_and_nothing_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with servers.redis_server() as server:
        monkeypatch.setattr(app.conf, "broker_url", server.url)
        broker.wake(FETCH)
        server.kill()
        broker.wake(FETCH)
        assert "nobody was woken" in caplog.text
        server.start()
        broker.wake(FETCH)
        assert broker.waiting(FETCH) == 1  # it keeps nothing on disk
        server.kill()
        server.start()  # and nobody has noticed
        broker.wake(FETCH)
        assert broker.waiting(FETCH) == 1
        app.pool.force_close_all()


def test_many_threads_wake_at_the_same_time(redis: None):
    threads = [Thread(target=broker.wake, args=(ANALYSE, 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broker.waiting(ANALYSE) == 200
