"""When re-indexing starts by itself: cron expressions on the wall clock of a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cronsim import CronSim, CronSimError

from worker.daytime import zone_of
from worker.errors import InvalidRule
from worker.reindexing import CatchUp, Limits, Rule

PUNCTUAL = timedelta(minutes=5)
"""A slot that nobody looked for within this time counts as missed."""


@dataclass(frozen=True)
class Schedule:
    """A rule, and when to plan and start a run of it.

    Attributes:
        cron: five fields, by the clock on the wall. A time that the clock leaves out in spring is made up
            for at once, one that it shows twice in autumn counts once, as with Debian's cron.
        catch_up: what becomes of missed times: the last of them is made up for `once`, or all are skipped.

    Raises:
        InvalidRule: no such expression or time zone.
    """

    name: str
    cron: str
    rule: Rule
    limits: Limits
    time_zone: str = "UTC"
    catch_up: CatchUp = "once"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InvalidRule("give the schedule a name")
        if len(self.cron.split()) != 5:
            raise InvalidRule(f"{self.cron!r} is no cron expression: write five fields, as in '0 22 * * 1-5'")
        zone_of(self.time_zone)
        _ = self.next_after(datetime.now(UTC))

    def next_after(self, moment: datetime) -> datetime:
        """The first slot after an instant."""
        try:
            return next(self._after(moment))
        except (CronSimError, StopIteration) as error:
            raise InvalidRule(f"{self.cron!r} names no time: {error}") from error

    def slots(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """All slots after `since` and not after `until`."""
        return takewhile(lambda slot: slot <= until, self._after(since))

    def due(self, since: datetime, moment: datetime) -> tuple[datetime | None, datetime | None]:
        """The slot to start now, if any, and the last that is over, started or let go."""
        last = max(self.slots(since, moment), default=None)
        if last is None or (self.catch_up == "skip" and moment - last > PUNCTUAL):
            return None, last
        return last, last

    def _after(self, moment: datetime) -> Iterator[datetime]:
        for slot in CronSim(self.cron, moment.astimezone(zone_of(self.time_zone))):
            yield slot.astimezone(UTC)


@dataclass(frozen=True)
class Planned:
    """A schedule in the store. `last_slot` is the last that was started or let go."""

    id: int
    schedule: Schedule
    enabled: bool
    last_slot: datetime
    created_at: datetime
