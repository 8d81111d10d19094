"""How far a mean over samples can be trusted: percentile bootstrap intervals (Efron 1979).

What is drawn anew, with replacement, are videos with all their samples: questions about one video are
not independent of each other, and drawing them one by one would promise too narrow an interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 5000
_BLOCK = 2**22  # weights drawn at a time: bounds memory where there are many videos

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` values, and the ends of its 95 % interval."""

    count: int
    value: float
    low: float
    high: float


def estimates(values: Numbers, videos: Sequence[Hashable], seed: int = 0) -> list[Estimate | None]:
    """The mean of each column and its 95 % interval; the same for the same seed.

    The difference between two systems is a column of differences, sample by sample.

    Args:
        values: (samples, columns) float64, NaN where there is no value.
        videos: which video each sample belongs to.

    Returns:
        per column; None where it has no value at all.
    """
    sums, counts = (_by_video(column, videos) for column in (np.nan_to_num(values), ~np.isnan(values)))
    means = _means(sums, counts, seed)
    return [
        _estimate(sums[:, column].sum(), counts[:, column].sum(), means[:, column])
        for column in range(values.shape[1])
    ]


def _estimate(total: float, count: float, means: Numbers) -> Estimate | None:
    if not count:
        return None
    low, high = np.nanquantile(means, [0.025, 0.975])  # NaN where a draw has nothing of a rare kind
    return Estimate(int(count), float(total / count), float(low), float(high))


def _by_video(values: NDArray[np.generic], videos: Sequence[Hashable]) -> Numbers:
    """(videos, columns) sums."""
    places: dict[Hashable, int] = {}
    index = [places.setdefault(video, len(places)) for video in videos]
    sums = np.zeros((len(places), values.shape[1]))
    np.add.at(sums, index, values)
    return sums


def _means(sums: Numbers, counts: Numbers, seed: int) -> Numbers:
    """(draws, columns) means; a draw is how often each video occurs in it."""
    dice = np.random.default_rng(seed)
    videos = len(sums)
    block = max(1, _BLOCK // videos)
    means = []
    for start in range(0, DRAWS, block):
        size = min(block, DRAWS - start)
        times = dice.multinomial(videos, np.full(videos, 1 / videos), size=size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append(times @ sums / (times @ counts))
    return np.concatenate(means)
