from collections import Counter

import pytest

from worker import broker, service
from worker.errors import BrokerUnusable
from worker.jobs import Request, Submission
from worker.settings import Settings
from worker.store import Store
from worker.sweep import sweep


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each queue was woken; no message waits there."""
    counts: Counter = Counter()
    monkeypatch.setattr(broker, "waiting", lambda queue: 0)
    monkeypatch.setattr(broker, "wake", lambda queue, count=1: counts.update({queue: count}))
    return counts


def test_it_wakes_for_every_submission_and_every_video_that_waits(
    store: Store, settings: Settings, registered, woken: Counter
):
    registered("a", "b")
    registered("c", sha256="1" * 64)
    service.add(store, Submission("later", "file:///later.mp4", (Request("a"),)))
    woken.clear()
    sweep(store, settings)
    assert woken == {"fetch": 1, "analyse": 2}


def test_it_wakes_nobody_for_what_has_a_message_already(
    store: Store, settings: Settings, registered, woken: Counter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(broker, "waiting", lambda queue: 5)
    registered("a")
    woken.clear()
    sweep(store, settings)
    assert +woken == {}


def test_what_a_lost_worker_held_too_often_is_given_up(
    store: Store, settings: Settings, claimed, woken: Counter
):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE analyses SET lease_expires_at = '2026-01-01 00:00:00.000000'")
    sweep(store, settings.changed(max_attempts=1))
    outcome = store.analyses.outcomes([claimed.analysis_id])[0]
    assert (outcome.state, outcome.error_code) == ("failed", "lost_worker")


def test_without_a_broker_nobody_is_asked_for_one(store: Store, settings: Settings, registered, caplog):
    registered("a")
    sweep(store, settings)
    assert caplog.messages == []


def test_a_broker_that_is_gone_does_not_stop_it(
    store: Store, settings: Settings, registered, woken: Counter, monkeypatch: pytest.MonkeyPatch, caplog
):
    def refuse(queue: str) -> int:
        raise BrokerUnusable("the broker does not answer")

    monkeypatch.setattr(broker, "waiting", refuse)
    registered("a")
    sweep(store, settings)
    assert "the broker does not answer" in caplog.text
