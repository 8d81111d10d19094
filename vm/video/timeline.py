"""Which frame is on screen when: presentation timestamps (stream ticks) ↔ frame indices. Opens nothing."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Stamp(NamedTuple):
    """What is known of one packet without decoding it; times in stream ticks."""

    pts: int | None
    dts: int | None
    is_key: bool


@dataclass(frozen=True)
class Timeline:
    """The frames of one video in presentation order.

    Attributes:
        time_base: seconds per tick.
        origin: the first frame's timestamp, in ticks.
        frame_rate: average frames per second.
        frame_count: frames that are shown, at least 1.
        keys: seek points in ticks, ascending; decoding may start at each.
        steady: no frame is half a frame away from its place in an even rhythm, so that index i is
            the i-th frame. Otherwise index i is what is on screen at i / frame_rate.
        pts: every frame's timestamp, ascending; None where only decoding would tell.
        counted: timestamps cannot be trusted; frames are numbered as they come out of the decoder,
            one tick each.
    """

    time_base: Fraction
    origin: int
    frame_rate: Fraction
    frame_count: int
    keys: tuple[int, ...]
    steady: bool
    pts: tuple[int, ...] | None
    counted: bool = False

    @property
    def duration(self) -> float:
        """Seconds, by the published rule: frame count over average frame rate."""
        return float(self.frame_count / self.frame_rate)

    def target(self, index: int) -> int:
        """The tick whose frame stands for `index`: the last frame at or before it is meant."""
        if self.pts and self.steady:
            return self.pts[index]
        # Half a frame of grace absorbs jitter in an even rhythm, half a tick the muxer's rounding.
        grace = Fraction(1, 2) / self.frame_rate if self.steady else self.time_base / 2
        target = self.origin + math.floor((index / self.frame_rate + grace) / self.time_base)
        return self.pts[max(0, bisect_right(self.pts, target) - 1)] if self.pts else target

    def seconds(self, tick: int) -> float:
        """Seconds from the first frame."""
        return float((tick - self.origin) * self.time_base)


def from_index(
    times: Sequence[int], keys: Sequence[int], time_base: Fraction, declared: Fraction | None, origin: int
) -> Timeline:
    """From a container's own index, which knows decoding times only: all frames', and its seek points'."""
    ticks = sorted(times)
    rate = _frame_rate(ticks, time_base, declared)
    steady = _is_steady(ticks, rate * time_base)
    return Timeline(time_base, origin, rate, len(ticks), tuple(sorted(keys)) or (ticks[0],), steady, None)


def from_packets(
    stamps: Sequence[Stamp], time_base: Fraction, declared: Fraction | None, origin: int, seekable: bool
) -> Timeline:
    """From every packet's timestamps, which must be trusted (see `are_trusted`)."""
    pts = tuple(sorted(s.pts for s in stamps if s.pts is not None and s.pts >= origin)) or (origin,)
    keys = tuple(sorted(s.pts for s in stamps if s.is_key and s.pts is not None))
    rate = _frame_rate(pts, time_base, declared)
    steady = _is_steady(pts, rate * time_base)
    return Timeline(time_base, pts[0], rate, len(pts), keys if keys and seekable else pts[:1], steady, pts)


def from_count(frame_count: int, declared: Fraction | None) -> Timeline:
    """Where timestamps are missing or run backwards: frame n is shown at n / frame rate."""
    rate = declared or _DEFAULT_RATE
    return Timeline(1 / rate, 0, rate, frame_count, (0,), True, tuple(range(frame_count)), counted=True)


def are_trusted(stamps: Sequence[Stamp], reorders: bool) -> bool:
    """Whether frames can be told apart and ordered by their timestamps.

    Args:
        stamps: all packets in decoding order.
        reorders: the codec shows frames in another order than it decodes them.
    """
    pts = [stamp.pts for stamp in stamps]
    dts = [stamp.dts for stamp in stamps if stamp.dts is not None]
    if None in pts or len(set(pts)) < len(pts) or any(b < a for a, b in pairwise(dts)):
        return False
    return not reorders or any(stamp.pts != stamp.dts for stamp in stamps)


_DEFAULT_RATE = Fraction(25)


def _frame_rate(ticks: Sequence[int], time_base: Fraction, declared: Fraction | None) -> Fraction:
    """The declared rate where the frames bear it out to within a frame, else the measured one."""
    length = (ticks[-1] - ticks[0]) * time_base
    if length <= 0:
        return declared or _DEFAULT_RATE
    measured = (len(ticks) - 1) / length
    if declared and abs((len(ticks) - 1) / declared - length) <= 1 / min(declared, measured):
        return declared
    return measured


def _is_steady(ticks: Sequence[int], frames_per_tick: Fraction) -> bool:
    since_first = np.array(ticks) - ticks[0]
    return bool(np.all(np.abs(since_first * float(frames_per_tick) - np.arange(len(ticks))) < 0.5))
