"""When schedules are due: on time, late, and on days of 23 and 25 hours."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.errors import InvalidRule
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule


def _schedule(cron: str, zone: str = "Europe/Berlin", **how: object) -> Schedule:
    return Schedule("nightly", cron, Rule(), Limits(), zone, **how)


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_slots_are_those_of_the_clock_on_the_wall():
    winter, summer = _utc(2026, 1, 10), _utc(2026, 7, 10)
    assert _schedule("0 22 * * *").next_after(winter) == _utc(2026, 1, 10, 21)
    assert _schedule("0 22 * * *").next_after(summer) == _utc(2026, 7, 10, 20)


def test_a_time_that_spring_leaves_out_is_made_up_for_once():
    slots = [*_schedule("30 2 * * *").slots(_utc(2026, 3, 28, 12), _utc(2026, 3, 30, 12))]
    assert slots == [_utc(2026, 3, 29, 1, 0), _utc(2026, 3, 30, 0, 30)]  # 03:00 by the wall, then 02:30


def test_a_time_that_autumn_shows_twice_counts_once():
    slots = [*_schedule("30 2 * * *").slots(_utc(2026, 10, 24, 12), _utc(2026, 10, 26, 12))]
    assert slots == [_utc(2026, 10, 25, 0, 30), _utc(2026, 10, 26, 1, 30)]


def test_what_is_on_time_is_due_and_what_has_not_come_is_not():
    schedule = _schedule("0 22 * * *", "UTC")
    since = _utc(2026, 5, 1, 12)
    assert schedule.due(since, _utc(2026, 5, 1, 21, 59)) == (None, None)
    slot = _utc(2026, 5, 1, 22)
    assert schedule.due(since, slot + timedelta(seconds=20)) == (slot, slot)
    assert schedule.due(slot, slot + timedelta(hours=1)) == (None, None)


def test_of_several_missed_slots_the_last_is_made_up_for_once():
    since, now = _utc(2026, 5, 1, 12), _utc(2026, 5, 4, 12)
    slot = _utc(2026, 5, 3, 22)
    assert _schedule("0 22 * * *", "UTC").due(since, now) == (slot, slot)


def test_missed_slots_are_skipped_where_that_was_chosen():
    since, now = _utc(2026, 5, 1, 12), _utc(2026, 5, 4, 12)
    schedule = _schedule("0 22 * * *", "UTC", catch_up="skip")
    assert schedule.due(since, now) == (None, _utc(2026, 5, 3, 22))
    assert schedule.due(since, _utc(2026, 5, 1, 22, 4))[0] == _utc(2026, 5, 1, 22)


@pytest.mark.parametrize("cron", ["", "every night", "0 25 * * *", "0 0 31 2 *", "0 22 * * * *", "@daily"])
def test_what_is_no_cron_expression_is_refused(cron: str):
    with pytest.raises(InvalidRule):
        _schedule(cron)


def test_a_schedule_without_name_or_zone_is_refused():
    with pytest.raises(InvalidRule, match="no time zone"):
        _schedule("0 22 * * *", "Nowhere")
    with pytest.raises(InvalidRule, match="name"):
        Schedule(" ", "0 22 * * *", Rule(), Limits())
