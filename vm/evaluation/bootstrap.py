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


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` values, and the ends of its 95 % interval."""

    count: int
    value: float
    low: float
    high: float


def estimate(values: Sequence[float], videos: Sequence[Hashable], seed: int = 0) -> Estimate:
    """The mean of values and its 95 % interval; the same for the same seed.

    Paired differences between two systems are the mean of the differences, sample by sample.

    Args:
        values: at least one, one per sample.
        videos: which video each belongs to.
    """
    places: dict[Hashable, int] = {}
    index = [places.setdefault(video, len(places)) for video in videos]
    sums = np.bincount(index, weights=values).astype(np.float64)
    counts = np.bincount(index).astype(np.float64)
    low, high = np.quantile(_means(sums, counts, seed), [0.025, 0.975])
    return Estimate(len(values), float(sums.sum() / counts.sum()), float(low), float(high))


def _means(sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The mean over each of `DRAWS` draws; a draw is how often each video occurs in it."""
    random = np.random.default_rng(seed)
    videos = len(sums)
    chances = np.full(videos, 1 / videos)
    block = max(1, _BLOCK // videos)
    means = []
    for start in range(0, DRAWS, block):
        times = random.multinomial(videos, chances, size=min(block, DRAWS - start))
        means.append(times @ sums / (times @ counts))
    return np.concatenate(means)
