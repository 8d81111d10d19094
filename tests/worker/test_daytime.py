from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.daytime import Hours
from worker.errors import InvalidRule

BERLIN = "Europe/Berlin"
instants = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))
clocks = st.times().map(lambda t: f"{t:%H:%M}")


def test_hours_over_midnight_hold_on_both_sides_of_it():
    hours = Hours.parse("22:00-06:00", "UTC")
    clocks = (21, 59), (22, 0), (5, 59), (6, 0)
    at = [datetime(2026, 3, 1, hour, minute, tzinfo=UTC) for hour, minute in clocks]
    assert [hours.contain(moment) for moment in at] == [False, True, True, False]


def test_hours_are_those_of_the_clock_on_the_wall_in_winter_and_summer():
    hours = Hours.parse("22:00-23:00", BERLIN)
    assert hours.contain(datetime(2026, 1, 15, 21, 30, tzinfo=UTC))
    assert hours.contain(datetime(2026, 7, 15, 20, 30, tzinfo=UTC))
    assert not hours.contain(datetime(2026, 7, 15, 21, 30, tzinfo=UTC))


def test_a_night_has_an_hour_less_when_summer_time_begins():
    hours = Hours.parse("22:00-06:00", BERLIN)
    first = hours.opened(datetime(2026, 3, 29, 3, 0, tzinfo=UTC))
    assert first == datetime(2026, 3, 28, 21, 0, tzinfo=UTC)
    assert hours.contain(datetime(2026, 3, 29, 3, 59, tzinfo=UTC))  # seven hours later: 05:59
    assert not hours.contain(datetime(2026, 3, 29, 4, 0, tzinfo=UTC))


@given(moment=instants, begin=clocks, end=clocks)
def test_within_the_hours_they_opened_less_than_a_day_ago(moment: datetime, begin: str, end: str):
    if begin == end:
        return
    hours = Hours.parse(f"{begin}-{end}", BERLIN)
    opened = hours.opened(moment)
    assert opened is not None
    assert timedelta(0) <= moment - opened <= timedelta(hours=25)


def test_without_hours_it_is_always_that_time():
    hours = Hours.parse(None, "UTC")
    assert hours.contain(datetime(2026, 1, 1, tzinfo=UTC))
    assert hours.opened(datetime(2026, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize("text", ["22-06", "25:00-26:00", "22:00-22:00", "night", "22:00-06:00-07:00"])
def test_what_are_no_hours_is_refused(text: str):
    with pytest.raises(InvalidRule, match="write them as in"):
        Hours.parse(text, "UTC")


@pytest.mark.parametrize("zone", ["Nowhere/At all", "", "../etc/passwd", "\0"])
def test_what_is_no_time_zone_is_refused(zone: str):
    with pytest.raises(InvalidRule, match="no time zone"):
        Hours.parse(None, zone)
