"""Hours of the day in a time zone, as in 22:00-06:00 Europe/Berlin, on days of 23, 24 or 25 hours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from worker.errors import InvalidRule

_HOURS = re.compile(r"(\d\d:\d\d)-(\d\d:\d\d)")


@dataclass(frozen=True)
class Hours:
    """From `begin` until before `end`, by the clock on the wall; over midnight where `end` is not later.

    Both are None where it is always that time.
    """

    begin: time | None
    end: time | None
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str | None, time_zone: str) -> Hours:
        """Raises InvalidRule: not hours as in 22:00-06:00, or no such zone."""
        zone = zone_of(time_zone)
        if text is None:
            return cls(None, None, zone)
        found = _HOURS.fullmatch(text)
        try:
            begin, end = (time.fromisoformat(part) for part in found.groups()) if found else (None, None)
        except ValueError:
            begin = end = None
        if begin is None or begin == end:
            raise InvalidRule(f"hours {text!r}: write them as in 22:00-06:00")
        return cls(begin, end, zone)

    def contain(self, moment: datetime) -> bool:
        """Whether it is that time of day at an instant."""
        if self.begin is None or self.end is None:
            return True
        clock = moment.astimezone(self.zone).time()
        if self.begin < self.end:
            return self.begin <= clock < self.end
        return clock >= self.begin or clock < self.end

    def opened(self, moment: datetime) -> datetime | None:
        """When they last began, at or before an instant; None where it is always that time."""
        if self.begin is None:
            return None
        day = moment.astimezone(self.zone).date()
        today = datetime.combine(day, self.begin, self.zone)
        if today.astimezone(UTC) > moment:
            today = datetime.combine(day - timedelta(days=1), self.begin, self.zone)
        return today.astimezone(UTC)


def zone_of(name: str) -> ZoneInfo:
    """Raises InvalidRule: there is no such time zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidRule(f"no time zone {name!r}: give one as in Europe/Berlin") from error
