"""The words for days: each time that may be searched and each recording made then have one in common."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from worker.daywords import ANY_DAY, LONGEST, touched, within

DAY = timedelta(days=1)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=zones)
durations = st.floats(0, 3 * LONGEST * 86_400)


@given(began=instants, duration=durations, share=st.floats(0, 1), before=durations, after=durations)
def test_a_search_names_a_day_of_each_recording_that_has_a_moment_then(began, duration, share, before, after):
    moment = began + timedelta(seconds=duration * share)
    since, until = moment - timedelta(seconds=before), moment + timedelta(seconds=after, microseconds=1)
    named = within(since, until)
    assert not named or set(named) & set(touched(began, duration))


@given(began=instants, duration=st.floats(0, 5 * 86_400), away=st.integers(1, 20), length=st.integers(1, 31))
def test_a_search_of_days_names_none_of_a_recording_that_was_made_on_others(began, duration, away, length):
    after = datetime.combine(
        (began + timedelta(seconds=duration)).astimezone(UTC).date(), datetime.min.time(), UTC
    )
    since = after + away * DAY
    assert not set(within(since, since + length * DAY)) & set(touched(began, duration))


def test_the_days_are_those_of_utc_and_the_last_one_ends_with_the_recording():
    late = datetime(2026, 6, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert touched(late, 1800.0) == ("day20260531", "month202605", "day20260601", "month202606")
    assert touched(late, 1799.0) == ("day20260531", "month202605")
    assert touched(late, None) == ("day20260531", "month202605")


def test_what_was_recorded_nobody_knows_when_has_no_day():
    assert touched(None, 60.0) == ()


def test_a_recording_of_years_stands_for_any_day():
    began = datetime(2020, 1, 1, tzinfo=UTC)
    assert touched(began, 86_400.0 * (LONGEST + 1)) == ("day20200101", "month202001", ANY_DAY)
    assert len(touched(began, 86_400.0 * LONGEST)) > LONGEST
    assert ANY_DAY in touched(began, 1e18)


def test_the_end_of_a_search_is_no_part_of_it():
    june = datetime(2026, 6, 1, tzinfo=UTC)
    assert within(june, june + DAY) == ("day20260601", ANY_DAY)
    assert within(june, june + DAY + timedelta.resolution) == ("day20260601", "day20260602", ANY_DAY)


def test_whole_months_are_named_as_such_and_what_is_left_by_its_days():
    june = datetime(2026, 6, 1, tzinfo=UTC)
    assert within(june, june + 30 * DAY) == ("month202606", ANY_DAY)
    assert within(june - DAY, june + 31 * DAY) == ("day20260531", "month202606", "day20260701", ANY_DAY)
    assert len(within(june + DAY, june + 30 * DAY)) == 30


def test_where_there_were_too_many_words_all_is_named_by_months_and_what_is_longer_not_at_all():
    june = datetime(2026, 6, 1, tzinfo=UTC)
    assert within(june + DAY, june + 40 * DAY) == ("month202606", "month202607", ANY_DAY)
    assert within(june, june + LONGEST * DAY)[:2] == ("month202606", "month202607")
    assert within(june, june + (LONGEST + 1) * DAY) == ()


def test_a_time_without_an_end_or_a_beginning_has_no_words():
    june = datetime(2026, 6, 1, tzinfo=UTC)
    assert within(june, None) == within(None, june) == within(june, june) == within(june, june - DAY) == ()
