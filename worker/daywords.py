"""Days and months as words, `day20260601` and `month202606`, which the text index keeps with all others.

They are UTC's, as all times are. What was recorded nobody knows when has none.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

LONGEST = 366
"""Days of a recording or a search that are told apart."""
ANY_DAY = "anyday"
"""Stands with a recording that is longer, whose days are too many words."""

_MOST = 31  # words of a search, of which each has to be looked for


def touched(began: datetime | None, duration: float | None) -> Sequence[str]:
    """The days and months on which a recording was made.

    Args:
        began: with its zone; None if that is not known.
        duration: seconds.
    """
    if began is None:
        return ()
    first = began.astimezone(UTC)
    seconds = duration or 0.0
    if seconds > LONGEST * 86_400:
        return (*_day_and_month(first.date()), ANY_DAY)
    days = _days(first.date(), _later(first, seconds).date())
    return tuple(dict.fromkeys(word for day in days for word in _day_and_month(day)))


def within(since: datetime | None, until: datetime | None) -> Sequence[str]:
    """Words of which each recording has one that was made at or after the one instant and before the other,
    as few as may be; none where the time is too long for that to help."""
    if since is None or until is None or until <= since:
        return ()
    first, last = since.astimezone(UTC).date(), (until - timedelta.resolution).astimezone(UTC).date()
    if (last - first).days >= LONGEST:
        return ()
    by_month = [list(days) for _, days in groupby(_days(first, last), key=lambda day: (day.year, day.month))]
    named = [word for days in by_month for word in _fewest(days)]
    if len(named) > _MOST:
        named = [_day_and_month(days[0])[1] for days in by_month]
    return (*named, ANY_DAY)


def _fewest(days: Sequence[date]) -> Iterator[str]:
    """The words for days of one month."""
    if len(days) == monthrange(days[0].year, days[0].month)[1]:
        yield _day_and_month(days[0])[1]
    else:
        yield from (_day_and_month(day)[0] for day in days)


def _day_and_month(day: date) -> tuple[str, str]:
    month = f"{day.year:04}{day.month:02}"
    return f"day{month}{day.day:02}", f"month{month}"


def _days(first: date, last: date) -> Iterator[date]:
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(number)


def _later(moment: datetime, seconds: float) -> datetime:
    """Nothing is later than the last day there is."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
