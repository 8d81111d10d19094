"""What a sweep does for archives: schedules start their runs, runs are fed, live work goes first."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from vm.errors import CheckpointError
from worker import archive, engine
from worker.reindexing import MOST_BACKGROUND, Limits, Rule
from worker.scheduling import Schedule
from worker.settings import Settings
from worker.store import Store
from worker.store.reindex import AT_ONCE
from worker.sweep import sweep

MINUTES = timedelta(minutes=5)
OLD, NEW = "o" * 64, "n" * 64


def _new() -> str:
    return NEW


def _nobody_asks() -> str:
    raise AssertionError("the checkpoint was looked at")


@pytest.fixture
def many(store: Store, registered, found) -> None:
    """More videos than a run may have in the queue, all answered by an old checkpoint."""
    for number in range(AT_ONCE + 2):
        ids = registered("Who?", fingerprint=OLD, sha256=f"{number:064}")
        (claim,) = store.analyses.claim_these(ids, "worker", OLD, MINUTES)
        store.analyses.finish(claim, found("Who?"))


@pytest.fixture
def nightly(store: Store) -> None:
    """A schedule whose time has come."""
    limits = Limits(priority=MOST_BACKGROUND)
    store.schedules.add(Schedule("nightly", "0 0 1 1 *", Rule(), limits))
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE schedules SET last_slot = '2025-06-01 00:00:00.000000'")


def _waiting(store: Store) -> int:
    return store.queues.depths()["analyse"].waiting


def test_where_nothing_is_to_be_done_the_checkpoint_is_not_looked_at(store: Store, many):
    store.schedules.add(Schedule("later", "0 0 1 1 *", Rule(), Limits()))
    store.reindex.plan(Rule(), Limits(), NEW)
    archive.tend(store, _nobody_asks)
    assert [run.state for run in store.reindex.runs()] == ["planned"]


def test_a_schedule_whose_time_has_come_is_started_once_and_fed(store: Store, many, nightly):
    for _ in range(3):
        archive.tend(store, _new)
    (run,) = store.reindex.runs()
    assert (run.state, run.items) == ("running", {"asked": AT_ONCE, "waiting": 2})
    assert _waiting(store) == AT_ONCE


def test_live_work_goes_before_the_most_urgent_run_and_the_queue_is_filled_up_again(
    store: Store, many, nightly, registered, found
):
    archive.tend(store, _new)
    registered("When?", fingerprint=NEW, sha256="1" * 64)

    def done() -> str:
        (claim,) = store.analyses.claim("worker", NEW, MINUTES, 3)
        store.analyses.finish(claim, found(claim.request.question))
        return claim.request.question

    assert [done(), done(), done()] == ["When?", "Who?", "Who?"]
    assert _waiting(store) == AT_ONCE - 2
    archive.tend(store, _new)
    assert _waiting(store) == AT_ONCE


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Callable]:
    """What a sweep does last."""
    calls: list[Callable] = []
    monkeypatch.setattr("worker.callbacks.make_due", lambda *given: calls.append(given))
    return calls


def test_a_checkpoint_that_cannot_be_used_leaves_the_rest_of_a_sweep_to_be_done(
    store: Store, settings: Settings, many, nightly, called, monkeypatch: pytest.MonkeyPatch, caplog
):
    def broken() -> str:
        raise CheckpointError("no weights here")

    with pytest.raises(CheckpointError):
        archive.tend(store, broken)
    monkeypatch.setattr(engine, "fingerprint", broken)
    sweep(store, settings)
    assert called
    assert "nothing is asked anew: no weights here" in caplog.text
    assert store.reindex.runs() == []


def test_a_run_that_is_of_no_use_any_more_does_so_too(
    store: Store, settings: Settings, many, nightly, called, monkeypatch: pytest.MonkeyPatch, caplog
):
    archive.tend(store, _new)
    limits = '{"hours": "22:00-06:00", "time_zone": "Mars/Olympus"}'
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE reindex_runs SET limits = :limits"), {"limits": limits})
    monkeypatch.setattr(engine, "fingerprint", _new)
    sweep(store, settings)
    assert called
    assert "nothing is asked anew: no time zone 'Mars/Olympus'" in caplog.text
