"""Which sightings are of one event: told by where they lie on one clock, in seconds. Knows no database.

Two sightings are of the same event if they share enough of what they cover together, or if a border cut one
of them off (a file, or a window that was searched, ended there) and the other one was there to see it go on.
What is the same as a third is the same: an event is all that hangs together, in whatever order it was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

SAME_IOU = 0.3
"""Two searches seldom agree on where an event begins and ends. This is the loosest agreement that moment
retrieval counts as a find; two events beside each other share less."""
BORDER_SECONDS = 1.0
"""How far from a border, and from what goes on behind it, an event that was cut there may seem to end: about
two of the frames a grounder looks at."""


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end` in seconds. What comes before or after it may have been cut off by a border."""

    start: float
    end: float
    cut_before: bool = False
    cut_after: bool = False

    @property
    def cuts(self) -> tuple[float, ...]:
        """Where it was cut off."""
        ends = ((self.cut_before, self.start), (self.cut_after, self.end))
        return tuple(end for is_cut, end in ends if is_cut)

    def iou(self, other: Stretch) -> float:
        """Intersection over union; 1 for two that are the same, however short."""
        if (self.start, self.end) == (other.start, other.end):
            return 1.0
        shared = max(0.0, min(self.end, other.end) - max(self.start, other.start))
        union = (self.end - self.start) + (other.end - other.start) - shared
        return shared / union if union > 0 else 0.0

    def reaches(self, instant: float) -> bool:
        """Whether it is there at an instant, or almost."""
        return self.start - BORDER_SECONDS <= instant <= self.end + BORDER_SECONDS


def is_border(seconds: float, borders: Sequence[float]) -> bool:
    """Whether something that seems to begin or end there may have been cut off at one of the borders."""
    return any(abs(seconds - border) <= BORDER_SECONDS for border in borders)


def same_event(one: Stretch, other: Stretch) -> bool:
    """Whether two sightings are of one event."""
    return (
        one.iou(other) >= SAME_IOU or any(map(other.reaches, one.cuts)) or any(map(one.reaches, other.cuts))
    )


def events(seen: Sequence[Stretch]) -> list[list[int]]:
    """The places of the sightings of each event, in the order of what was seen first."""
    found: list[list[int]] = []
    for place, new in enumerate(seen):
        same = [event for event in found if any(same_event(new, seen[other]) for other in event)]
        found = [event for event in found if event not in same]
        found.append(sorted((*chain(*same), place)))
    return sorted(found)
