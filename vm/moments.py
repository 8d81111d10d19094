"""Spans of time and what can be done with them: clamp, widen, grow, IoU, IoP, NMS. Knows no model.

All spans are in seconds of the video's own timeline. Interval rules follow the published
`videomind/utils/parser.py:parse_span` and `videomind/model/model.py` (NMS).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LEAST_CHANCE = 1e-6  # so that no witness decides alone


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a video, `0 ≤ start ≤ end`, in seconds.

    Raises:
        ValueError: an end before its start, a negative or a non-finite bound.
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 <= self.start <= self.end):
            raise ValueError(f"not a span: ({self.start}, {self.end})")

    @classmethod
    def clamped(cls, start: float, end: float, duration: float) -> Span:
        """Two bounds in any order, cut to the video."""
        low, high = sorted((min(duration, max(0.0, start)), min(duration, max(0.0, end))))
        return cls(low, high)

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def center(self) -> float:
        return (self.start + self.end) / 2

    def shifted(self, offset: float) -> Span:
        return Span(self.start + offset, self.end + offset)

    def grown(self, minimum: float, duration: float) -> Span:
        """At least `minimum` seconds long, around the same centre, kept inside the video.

        A video shorter than `minimum` gives the whole video.
        """
        span = Span.clamped(self.start, self.end, duration)
        if span.length >= minimum:
            return span
        half = minimum / 2
        center = min(duration - half, max(half, span.center))
        return Span.clamped(center - half, center + half, duration)

    def widened(self, fraction: float, duration: float) -> Span:
        """Longer by `fraction` of its length on both sides, cut to the video."""
        margin = self.length * fraction
        return Span.clamped(self.start - margin, self.end + margin, duration)

    def intersection(self, other: Span) -> float:
        """Shared seconds."""
        return max(0.0, min(self.end, other.end) - max(self.start, other.start))

    def iou(self, other: Span) -> float:
        """Intersection over union; 0 where both are empty."""
        shared = self.intersection(other)
        union = self.length + other.length - shared
        return shared / union if union > 0 else 0.0

    def iop(self, other: Span) -> float:
        """Intersection over this (the predicted) span's length; 0 where it is empty."""
        return self.intersection(other) / self.length if self.length > 0 else 0.0


@dataclass(frozen=True)
class Candidate:
    """A span the grounder proposes, in seconds; verified once the last three fields are set.

    `confidence` is the grounder's classification score, `verifier_score` is
    sigmoid(P(Yes) − P(No)). Neither is a probability of being right. `fallback` marks a span that
    stands in because the grounder localised nothing.
    """

    span: Span
    confidence: float
    fallback: bool = False
    p_yes: float | None = None
    p_no: float | None = None
    verifier_score: float | None = None


@dataclass(frozen=True)
class Moment:
    """A candidate in its final place. `rank` counts from 1, the best first."""

    candidate: Candidate
    rank: int
    query: str

    @property
    def span(self) -> Span:
        return self.candidate.span


def rank_moments(
    candidates: Sequence[Candidate], query: str, confidence_weight: float = 0.0
) -> tuple[Moment, ...]:
    """Candidates best first: by verifier score where there is one, else in the grounder's order.

    The sort is stable, so that equal scores keep the grounder's order.

    Args:
        confidence_weight: above 0, the verifier's log-odds of Yes against No and the grounder's log-odds, the
            latter so many times, are added up and decide instead: two witnesses who err apart.
    """
    if all(c.verifier_score is not None for c in candidates):
        candidates = sorted(candidates, key=lambda c: -_worth(c, confidence_weight))
    return tuple(Moment(c, rank, query) for rank, c in enumerate(candidates, start=1))


def _worth(candidate: Candidate, confidence_weight: float) -> float:
    if not confidence_weight or candidate.p_yes is None or candidate.p_no is None:
        return candidate.verifier_score or 0.0
    confidence = confidence_weight * _log_odds(candidate.confidence, 1 - candidate.confidence)
    return _log_odds(candidate.p_yes, candidate.p_no) + confidence


def _log_odds(chance: float, against: float) -> float:
    return math.log(max(chance, _LEAST_CHANCE)) - math.log(max(against, _LEAST_CHANCE))


def suppress(candidates: Sequence[Candidate], threshold: float, limit: int | None = None) -> list[Candidate]:
    """Greedy non-maximum suppression in seconds: the more confident of two that overlap stays.

    Args:
        candidates: in any order.
        threshold: IoU at and above which the less confident one is dropped.
        limit: how many are wanted; hours of video propose thousands.

    Returns:
        What is kept, most confident first (ties in the given order).
    """
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: -c.confidence):
        if all(candidate.span.iou(other.span) < threshold for other in kept):
            kept.append(candidate)
        if len(kept) == limit:
            break
    return kept
