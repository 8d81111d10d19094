"""Each slot of a schedule starts one run, however many look."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.errors import InvalidRule
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.store import Store

NEW = "n" * 64


def _schedule(name: str = "nightly", **how: object) -> Schedule:
    return Schedule(name, "0 0 1 1 *", Rule(), Limits(compute_hours=2), **how)


@pytest.fixture
def passed(sql):
    """Lets a schedule's last slot be long past."""
    return lambda: sql("UPDATE schedules SET last_slot = '2025-06-01 00:00:00.000000'")


def test_a_schedule_is_kept_as_it_was_given(store: Store):
    store.schedules.add(_schedule())
    (found,) = store.schedules.all()
    assert (found.schedule, found.enabled) == (_schedule(), True)


def test_nothing_is_due_before_the_first_slot_and_a_passed_one_starts_one_run(store: Store, passed):
    store.schedules.add(_schedule())
    passed()
    assert store.schedules.any_due()
    (run_id,) = store.schedules.start_due(NEW)
    assert store.reindex.run(run_id).limits == Limits(compute_hours=2)
    assert store.schedules.start_due(NEW) == []
    assert not store.schedules.any_due()


def test_many_beats_at_once_start_a_slot_once(store: Store, passed, counted):
    for number in range(5):
        store.schedules.add(_schedule(f"schedule {number}"))
        passed()
        with ThreadPoolExecutor(4) as pool:
            started = [*pool.map(lambda _: store.schedules.start_due(NEW), range(4))]
        assert sum(map(len, started)) == 1
        store.schedules.remove(f"schedule {number}")
    assert counted("reindex_runs") == [5]


def test_a_run_that_is_still_at_work_goes_on_instead_of_another(store: Store, passed, submitted, sql):
    store.schedules.add(_schedule())
    submitted()
    sql("UPDATE analyses SET state = 'succeeded', current = true")
    passed()
    (run_id,) = store.schedules.start_due(NEW)
    assert store.reindex.run(run_id).state == "running"
    passed()
    assert store.schedules.start_due(NEW) == []


def test_a_schedule_that_is_off_starts_nothing_and_makes_up_for_nothing_later(store: Store, passed):
    store.schedules.add(_schedule())
    passed()
    store.schedules.enable("nightly", False)
    assert store.schedules.start_due(NEW) == []
    store.schedules.enable("nightly", True)
    assert store.schedules.start_due(NEW) == []


def test_a_schedule_of_the_same_name_takes_the_place_of_the_first(store: Store, counted):
    store.schedules.add(_schedule())
    store.schedules.add(_schedule(time_zone="Europe/Berlin"))
    assert [found.schedule.time_zone for found in store.schedules.all()] == ["Europe/Berlin"]
    store.schedules.remove("nightly")
    assert counted("schedules") == [0]


def test_what_is_no_schedule_is_refused(store: Store):
    for change in (store.schedules.remove, lambda name: store.schedules.enable(name, True)):
        with pytest.raises(InvalidRule, match="there is no schedule 'x'"):
            change("x")


def test_one_that_is_of_no_use_any_more_holds_up_no_other_and_is_named(
    store: Store, passed, sql, caplog: pytest.LogCaptureFixture
):
    for name in ("first", "second"):
        store.schedules.add(_schedule(name))
    passed()
    sql("UPDATE schedules SET time_zone = 'Mars/Olympus' WHERE name = 'first'")
    assert store.schedules.any_due()
    assert len(store.schedules.start_due(NEW)) == 1
    assert not store.schedules.any_due()
    assert "schedule 'first': " in caplog.text
    with pytest.raises(
        InvalidRule, match=r"schedule 'first': .*Mars/Olympus.*[^.]\. Add it anew, or remove it"
    ):
        store.schedules.all()
    store.schedules.remove("first")
    assert [kept.schedule.name for kept in store.schedules.all()] == ["second"]
