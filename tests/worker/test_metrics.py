import urllib.request

import pytest
from prometheus_client import REGISTRY

from tests.servers import DATABASES, free_port
from tests.worker import archive_example
from vm.errors import NoFrames
from worker import metrics
from worker.store import Store


@pytest.fixture
def shown(store: Store):
    port = free_port()
    metrics.serve(port, store)

    def look() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            lines = [line for line in response.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    return look


def test_the_queues_are_shown_as_they_are_when_looked_at(shown, store: Store, registered, mind, settings):
    assert shown()['videomind_queue_depth{queue="analyse"}'] == 0
    ids = registered("a", "b")
    store.analyses.claim_these(ids[:1], "w", mind.fingerprint, settings.lease)
    values = shown()
    assert values['videomind_queue_depth{queue="analyse"}'] == 1
    assert values['videomind_running{queue="analyse"}'] == 1
    assert values['videomind_oldest_seconds{queue="analyse"}'] >= 0
    assert values["videomind_database_up"] == 1


@pytest.mark.parametrize("database", DATABASES)
def test_deliveries_that_were_given_up_are_shown_until_they_are_tried_again(shown, store: Store):
    archive_example.fill(store)
    assert shown()["videomind_dead_deliveries"] == 0
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE hits SET delivery_state = 'dead'")
    assert shown()["videomind_dead_deliveries"] == store.hits.count_dead() == 1
    store.hits.retry()
    assert shown()["videomind_dead_deliveries"] == 0


def test_a_database_that_is_gone_is_shown_as_gone(shown, store: Store):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW queue_view")
        connection.exec_driver_sql("ALTER TABLE submissions RENAME TO lost")
    assert shown()["videomind_database_up"] == 0


def test_results_and_failures_are_counted(shown, found):
    before = shown()
    metrics.count_result(found("a"))
    metrics.count_failure(NoFrames("nothing"))
    metrics.count_failure(RuntimeError("odd"))
    after = shown()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown("videomind_analyses_total") == 1
    assert after["videomind_model_memory_bytes"] > 10_000_000  # this process has loaded torch
    assert grown('videomind_stage_seconds_sum{stage="decode"}') == 0.25
    assert grown('videomind_failures_total{code="no_frames"}') == 1
    assert grown('videomind_failures_total{code="internal_error"}') == 1
    assert REGISTRY.get_sample_value("videomind_analyses_total") >= 1
