"""What travels around re-indexing: the rule that chooses, the limits that hold back, how far a run is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from vm.questions import check_question
from worker.daytime import Hours
from worker.errors import InvalidRule

RunState = Literal["planned", "running", "paused", "finished", "cancelled", "rolled_back"]
ItemState = Literal[
    "waiting", "asked", "switched", "unchanged", "failed", "cancelled", "rolled_back", "pruned"
]
Reason = Literal["stale", "failed", "never", "old", "low_score"]
"""Why a question of a video is chosen: answered by another checkpoint, failed, never asked, answered long
ago, or answered with too low a score."""
CatchUp = Literal["once", "skip"]

RUN_STATES: tuple[RunState, ...] = get_args(RunState)
ITEM_STATES: tuple[ItemState, ...] = get_args(ItemState)
REASONS: tuple[Reason, ...] = get_args(Reason)
CATCH_UPS: tuple[CatchUp, ...] = get_args(CatchUp)

BACKGROUND = 1
"""The priority of re-indexing: below all live work, and with room below."""
LONGEST_DAYS = 100_000
"""Further back than anything was answered, and not beyond the calendar."""
MOST_BACKGROUND = 4
"""The highest priority a run may have: live work is 5."""


@dataclass(frozen=True)
class Rule:
    """Which questions of which videos are asked anew: what one of the reasons holds for, within the bounds.

    Attributes:
        reasons: why. `old` needs `older_than_days`, `low_score` needs `below_score`, `never` needs
            `questions` or standing questions.
        older_than_days: days since the answer.
        below_score: of the best moment, as `moment_view` has it; no moment at all counts as lower.
        collection, source: by name; a source belongs to a collection.
        since, until: when the recording began, ISO 8601 with its zone.
        questions: what videos are asked that were never asked anything.

    Raises:
        InvalidRule: it says what does not fit together.
    """

    reasons: tuple[Reason, ...] = ("stale",)
    older_than_days: float | None = None
    below_score: float | None = None
    collection: str | None = None
    source: str | None = None
    since: str | None = None
    until: str | None = None
    questions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.reasons or not set(self.reasons) <= set(REASONS):
            raise InvalidRule(f"choose among the reasons {', '.join(REASONS)}")
        for reason, needed in (("old", self.older_than_days), ("low_score", self.below_score)):
            if (reason in self.reasons) != (needed is not None):
                raise InvalidRule(f"the reason {reason!r} and its bound need each other: give both or none")
        if self.older_than_days is not None and not 0 <= self.older_than_days <= LONGEST_DAYS:
            raise InvalidRule(f"{self.older_than_days:g} days: give 0 to {LONGEST_DAYS}")
        if self.below_score is not None and not 0 <= self.below_score <= 1:
            raise InvalidRule(f"a score of {self.below_score:g}: scores go from 0 to 1")
        if self.source and not self.collection:
            raise InvalidRule("a source belongs to a collection: name both")
        _ = self._period

    @property
    def _period(self) -> tuple[datetime | None, datetime | None]:
        since, until = (None if text is None else utc(text) for text in (self.since, self.until))
        return since, until

    @classmethod
    def given(cls, *args: Any) -> Rule:
        """One that somebody asks for now. What was kept before, and can choose nothing, stays readable.

        Raises:
            InvalidRule: also where its time ends before it begins.
            QuestionError: no model would be asked one of the questions.
        """
        rule = cls(*args)
        for question in rule.questions:
            check_question(question)
        begins, ends = rule._period
        if begins and ends and ends <= begins:
            raise InvalidRule(f"it would end at {rule.until}, before it begins at {rule.since}")
        return rule

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Rule:
        lists = {name: tuple(stored[name]) for name in ("reasons", "questions")}
        return cls(**{**stored, **lists})

    def to_stored(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    """How much of a machine a run may have.

    Attributes:
        priority: of its analyses, from 0 to MOST_BACKGROUND.
        compute_hours: how long its analyses may take together between two openings of `hours`, or in all
            where there are none. None is without limit.
        hours: when it may begin analyses, as in 22:00-06:00 in `time_zone`. None is always.

    Raises:
        InvalidRule: it says what cannot be.
    """

    priority: int = BACKGROUND
    compute_hours: float | None = None
    hours: str | None = None
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= MOST_BACKGROUND:
            raise InvalidRule(f"priority {self.priority}: give 0 to {MOST_BACKGROUND}, below live work")
        if self.compute_hours is not None and not 0 < self.compute_hours < math.inf:
            raise InvalidRule(f"a budget of {self.compute_hours:g} hours: give a number above 0")
        _ = self.daytime

    @property
    def daytime(self) -> Hours:
        return Hours.parse(self.hours, self.time_zone)

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> Limits:
        return cls(**stored)

    def to_stored(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Selection:
    """What a rule chooses: how much that is, and what it would cost, as far as that can be told.

    `estimated_seconds` is None where nothing was measured yet.
    """

    videos: int
    questions: int
    video_hours: float
    estimated_seconds: float | None
    reasons: Mapping[Reason, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run and how far it is. `items` counts its questions by state; `spent_seconds` is compute so far."""

    id: int
    state: RunState
    rule: Rule
    limits: Limits
    fingerprint: str
    estimated_seconds: float | None
    items: Mapping[ItemState, int]
    spent_seconds: float
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def total(self) -> int:
        return sum(self.items.values())

    @property
    def done(self) -> int:
        return self.total - self.items.get("waiting", 0) - self.items.get("asked", 0)

    @property
    def remaining_seconds(self) -> float | None:
        """Compute that is still to come, by what its questions have taken so far."""
        left = self.total - self.done
        if not left:
            return 0.0
        if self.done and self.spent_seconds:
            return self.spent_seconds / self.done * left
        return self.estimated_seconds

    def ends_at(self, now: datetime) -> datetime | None:
        """When it ended, or will if it goes on as it has, its nights and pauses included. None: who knows."""
        if self.finished_at or self.state != "running" or not self.done or self.started_at is None:
            return self.finished_at
        left = self.total - self.done
        return now + (now - self.started_at) * (left / self.done)


def utc(text: str) -> datetime:
    """What an ISO 8601 time with its zone is in UTC.

    Raises:
        InvalidRule: it is no time, has no zone, or is beyond the calendar.
    """
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRule(f"{text!r} is no time: write 2026-03-01T08:00:00+01:00") from error
    raise InvalidRule(f"{text!r} has no time zone: add it, as in 2026-03-01T08:00:00+01:00")
