from collections.abc import Sequence
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.evaluation import bootstrap
from vm.evaluation.bootstrap import Estimate, estimates


def estimate(values: Sequence[float], videos: Sequence[int], seed: int = 0) -> Estimate:
    found = estimates(np.array(values)[:, None], videos, seed)[0]
    assert found is not None
    return found


figures = st.lists(st.floats(-1, 1), min_size=1, max_size=30)


@given(figures)
@settings(max_examples=30)
def test_the_interval_lies_among_the_values_and_the_value_is_their_mean(values: list[float]) -> None:
    found = estimate(values, range(len(values)))
    assert found.count == len(values)
    assert found.value == pytest.approx(fmean(values), abs=1e-12)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


@given(figures, st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=30)
def test_the_interval_moves_and_stretches_with_the_values(
    values: list[float], scale: float, shift: float
) -> None:
    found = estimate(values, range(len(values)))
    moved = estimate([scale * value + shift for value in values], range(len(values)))
    assert moved.low == pytest.approx(scale * found.low + shift, abs=1e-6)
    assert moved.high == pytest.approx(scale * found.high + shift, abs=1e-6)


@given(figures, st.integers(2, 4))
@settings(max_examples=30)
def test_asking_the_same_of_a_video_again_and_again_tells_nothing_new(
    values: list[float], times: int
) -> None:
    once = estimate(values, range(len(values)))
    often = estimate(values * times, [*range(len(values))] * times)
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert often.count == times * once.count


def test_one_seed_gives_one_interval_and_another_gives_another() -> None:
    values = np.random.default_rng(1).random(40)
    assert estimate(values, range(40)) == estimate(values, range(40))
    assert estimate(values, range(40), seed=1).low != estimate(values, range(40)).low


def test_a_share_has_the_interval_of_the_normal_approximation() -> None:
    """Of 1000 independent samples 300 are right."""
    found = estimate([1.0] * 300 + [0.0] * 700, range(1000))
    half = NormalDist().inv_cdf(0.975) * (0.3 * 0.7 / 1000) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.3 - half, 0.3 + half), abs=0.003)


def test_samples_of_one_video_count_together() -> None:
    """Ten questions to each of twenty videos, all right or all wrong, are worth twenty."""
    values = [1.0] * 100 + [0.0] * 100
    apart = estimate(values, range(200))
    together = estimate(values, [place // 10 for place in range(200)])
    assert together.high - together.low > 2.5 * (apart.high - apart.low)


def test_many_videos_are_drawn_in_blocks_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).random(50)
    whole = estimate(values, range(50))
    monkeypatch.setattr(bootstrap, "_BLOCK", 1000)
    assert estimate(values, range(50)) == whole


def test_columns_are_estimated_as_if_alone_and_gaps_are_left_out() -> None:
    values = np.random.default_rng(3).random((30, 3))
    values[20:, 1] = np.nan
    values[:, 2] = np.nan
    first, second, third = estimates(values, range(30))
    assert first is not None
    assert second is not None
    alone = estimate(values[:, 0], range(30))
    assert (first.low, first.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert second.count == 20
    assert second.value == pytest.approx(values[:20, 1].mean())
    assert second.low < second.value < second.high
    assert third is None


def test_a_value_that_many_draws_miss_still_has_an_interval() -> None:
    values = np.full((40, 1), np.nan)
    values[7] = 0.25
    assert estimates(values, range(40)) == [Estimate(1, 0.25, 0.25, 0.25)]
