from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import QuestionError
from worker.jobs import ORIGINS
from worker.recording import recorded_at

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
PATTERN = "cam3_%Y-%m-%d_%H-%M-%S"


def _named(name: str, pattern: str, time_zone: str | None = None) -> datetime | None:
    found = recorded_at(None, name, pattern, time_zone, None)
    assert found is None or found[1] == "filename"
    return found[0] if found else None


def test_the_argument_goes_before_the_name_and_the_name_before_the_container():
    name = "cam3_2024-01-02_03-04-05.mp4"
    assert recorded_at(NOON, name, PATTERN, None, NOON) == (NOON, "argument")
    assert recorded_at(None, name, PATTERN, None, NOON) == (
        datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "filename",
    )
    assert recorded_at(None, "other.mp4", PATTERN, None, NOON) == (NOON, "container")
    assert recorded_at(None, name, None, None, NOON) == (NOON, "container")
    assert recorded_at(None, "other.mp4", PATTERN, None, None) is None
    assert set(ORIGINS) == {"argument", "filename", "container"}


@pytest.mark.parametrize(
    ("name", "pattern", "seconds"),
    [
        ("front cam3_2024-05-06_12-00-07 (2).mp4", PATTERN, 7),
        ("20240506120007.mp4", "%Y%m%d%H%M%S", 7),
        ("99920240506120007123.mp4", "%Y%m%d%H%M%S%f", 7.123),
        ("240506-12.mp4", "%y%m%d-%H", 0),
        ("06.05.2024 12h00 100%.mp4", "%d.%m.%Y %Hh%M 100%%", 0),
        ("2024-05-06 12.00.07 PM.mp4", "%Y-%m-%d %I.%M.%S %p", 7),
        ("2024-05-05.mp4", "%Y-%m-%d", -36 * 3600),
        ("2024-05-06T14:00:00+0200.mp4", "%Y-%m-%dT%H:%M:%S%z", 0),
        ("2024-05-06T12:00:00Z.mp4", "%Y-%m-%dT%H:%M:%S%z", 0),
        ("2023-02-30 2024-05-06.mp4", "%Y-%m-%d", -12 * 3600),
        (r"(a+)+.* 2024[05]06 12", "(a+)+.* %Y[%m]%d %H", 0),
    ],
)
def test_a_pattern_is_found_anywhere_in_the_name(name: str, pattern: str, seconds: float):
    assert _named(name, pattern) == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "name", ["", "cam4_2024-05-06_12-00-00", "cam3_2024-13-06_12-00-00", "cam3_2023-02-29_12-00-00"]
)
def test_a_name_without_such_a_time_tells_nothing(name: str):
    assert _named(name, PATTERN) is None


@settings(max_examples=50, deadline=None)
@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2199, 12, 31)),
    st.text("abc_ .", max_size=9),
    st.text(max_size=9),
)
def test_what_is_written_by_a_pattern_is_read_by_it(time: datetime, before: str, after: str):
    pattern = "x%Y-%m-%d_%H%M%S.%fz"
    name = f"{before}{time.strftime('x%Y-%m-%d_%H%M%S')}.{time.microsecond:06}z{after}"
    assert _named(name, pattern) == time.replace(tzinfo=UTC)


@settings(max_examples=50, deadline=None)
@given(st.text("%YmdHMSfIpz-_a(+*.", max_size=20) | st.text(max_size=20), st.text("0129-_a.", max_size=40))
def test_any_pattern_is_read_or_refused(pattern: str, name: str):
    with suppress(QuestionError):
        recorded_at(None, name, pattern, None, None)


def test_a_long_search_is_short():
    assert _named("1" * 255, "%Y%m%d%H%M%S%f" + "1" * 180 + "x") is None


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("%Y%m%d%Q", "'%Q'"),
        ("%Y%m%d%", "'%'"),
        ("%Y%m%d%B", "'%B'"),
        ("%Y%m%d %Y", "twice"),
        ("", "no time"),
        ("video", "no time"),
        ("%H%M%S", "no time"),
        ("%Y%m", "no time"),
        ("%Y%m%d%M", "no time"),
        ("%Y%m%d%I", "no time"),
        ("%Y%m%d%H%S", "no time"),
        ("%Y%y%m%d", "no time"),
        ("%Y%m%d" + "x" * 200, "200 characters"),
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused(pattern: str, message: str):
    with pytest.raises(QuestionError, match=message):
        recorded_at(None, "name", pattern, None, None)


def test_the_name_is_in_the_sources_time_zone():
    assert _named("cam3_2024-05-06_14-00-00", PATTERN, "Europe/Berlin") == NOON
    assert recorded_at(datetime(2024, 5, 6, 14), "", None, "Europe/Berlin", None) == (NOON, "argument")
    elsewhere = datetime(2024, 5, 6, 7, tzinfo=timezone(timedelta(hours=-5)))
    assert recorded_at(elsewhere, "", None, "Europe/Berlin", None) == (NOON, "argument")


def test_an_hour_that_comes_twice_is_the_first_and_one_left_out_is_shifted():
    twice = _named("cam3_2024-10-27_02-30-00", PATTERN, "Europe/Berlin")
    assert twice == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    left_out = _named("cam3_2024-03-31_02-30-00", PATTERN, "Europe/Berlin")
    assert left_out == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)
    assert left_out.astimezone(ZoneInfo("Europe/Berlin")).hour == 3


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Mars/Olympus",
        "../../etc/passwd",
        "/etc/passwd",
        "Europe",
        "zone.tab",
        "a\0b",
        "\udc00",
        "x" * 5000,
    ],
)
def test_a_time_zone_that_does_not_exist_is_refused(zone: str):
    with pytest.raises(QuestionError, match="no such time zone"):
        recorded_at(NOON, "", None, zone, None)


def test_a_time_no_calendar_has_in_utc_is_refused():
    with pytest.raises(QuestionError, match="check the year"):
        recorded_at(datetime(1, 1, 1), "", None, "Asia/Tokyo", None)


@pytest.mark.parametrize("year", [1904, 1970])
def test_a_camera_whose_clock_was_never_set_tells_nothing(year: int):
    assert recorded_at(None, "", None, None, datetime(year, 1, 1, tzinfo=UTC)) is None
