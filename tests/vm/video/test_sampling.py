"""The published rule for which frames a role looks at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.moments import Span
from vm.video.sampling import sample_indices

counts = st.integers(1, 100_000)
rates = st.floats(0.5, 120)
limits = st.integers(2, 200)


def test_one_frame_per_second_reaches_the_last_frame():
    assert sample_indices(24, 8.0, None, 1.0, 100) == (0, 8, 15, 23)


def test_the_limit_is_rounded_down_to_an_even_number():
    assert len(sample_indices(3000, 25.0, None, 1.0, 33)) == 32


def test_a_short_span_still_gets_four_frames():
    assert sample_indices(1000, 25.0, Span(10.0, 10.1), 1.0, 64) == (250, 251, 251, 252)


def test_a_span_past_the_end_shows_the_last_frame():
    assert set(sample_indices(100, 25.0, Span(50.0, 60.0), 1.0, 64)) == {99}


def test_a_video_of_one_frame_repeats_it():
    assert sample_indices(1, 25.0, None, 1.0, 100) == (0, 0, 0, 0)


def test_an_absurdly_long_span_is_bounded_by_the_limit():
    assert len(sample_indices(100, 25.0, Span(0.0, 1e15), 2.0, 64)) <= 64


@pytest.mark.parametrize(("rate", "limit"), [(0.0, 10), (float("nan"), 10), (1.0, 1)])
def test_budgets_that_make_no_sense_are_refused(rate: float, limit: int):
    with pytest.raises(ValueError, match="cannot sample"):
        sample_indices(100, 25.0, None, rate, limit)


@given(counts, rates, st.floats(0, 5000), st.floats(0, 5000), st.floats(0.1, 30), limits)
def test_indices_are_even_in_number_ascending_and_inside(count, video_rate, a, b, rate, limit):
    indices = sample_indices(count, video_rate, Span(min(a, b), max(a, b)), rate, limit)
    assert len(indices) % 2 == 0
    assert 2 <= len(indices) <= limit
    assert list(indices) == sorted(indices)
    assert 0 <= indices[0] <= indices[-1] < count
