from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vm.footage import Footage
from vm.mind import VideoMind
from vm.model.backbone import Generation
from vm.moments import Span
from vm.roles.grounder import _reg_state, fallback_candidates, ground

QUERY = "the dark disc moves left"
REG = 9


@pytest.mark.parametrize("window", [Span(0, 24), Span(5.5, 17.25)])
def test_candidates_lie_in_the_window_the_most_confident_first(
    mind: VideoMind, footage: Footage, window: Span
) -> None:
    found = ground(mind.cast, footage, QUERY, window, 0.75)
    assert 5 < len(found) <= 100
    assert all(window.start <= c.span.start <= c.span.end <= window.end + 1e-9 for c in found)
    kept = [c.confidence for c in found if c.confidence > 0]
    assert kept == sorted(kept, reverse=True)
    assert not any(c.fallback or c.verifier_score for c in found)


def test_times_are_rounded_to_milliseconds(mind: VideoMind, footage: Footage) -> None:
    found = ground(mind.cast, footage, QUERY, Span(0, 24), 0.75)
    ends = [end for candidate in found for end in (candidate.span.start, candidate.span.end)]
    assert ends == pytest.approx([round(end, 3) for end in ends], abs=1e-5)


def test_queries_that_fold_alike_ground_alike(mind: VideoMind, footage: Footage) -> None:
    plain, padded = (
        ground(mind.cast, footage, query, Span(0, 24), 0.75) for query in (QUERY, f"  {QUERY} .\n")
    )
    assert plain == padded


def test_a_reply_without_the_token_localises_nothing(mind: VideoMind, footage: Footage) -> None:
    speechless = replace(mind.cast, reg=-1)
    assert ground(speechless, footage, QUERY, Span(0, 24), 0.75) == []


@pytest.mark.parametrize(
    ("ids", "place"), [([5, REG], 1), ([5, 6, REG, REG], 2), ([REG, 5, REG], 2), ([REG], None), ([5], None)]
)
def test_the_first_token_that_does_not_open_the_reply_counts(ids: list[int], place: int | None) -> None:
    states = torch.arange(len(ids) * 2.0).view(-1, 2)
    found = _reg_state(Generation(ids, states), REG)
    assert (found is None) if place is None else torch.equal(found, states[place : place + 1])


@given(st.floats(0.01, 1e5))
def test_fallback_spans_are_overlapping_thirds_that_cover_the_video(duration: float) -> None:
    found = fallback_candidates(duration, verified=True)
    assert [c.span.length for c in found] == pytest.approx([duration / 3] * 5)
    assert [c.span.start for c in found] == pytest.approx([duration * i / 6 for i in range(5)])
    assert found[-1].span.end == pytest.approx(duration)
    assert all(c.span.end <= duration and c.fallback and c.confidence == 0 for c in found)


def test_without_a_verifier_the_fallback_is_the_whole_video() -> None:
    (candidate,) = fallback_candidates(30.0, verified=False)
    assert candidate.span == Span(0, 30)
    assert candidate.fallback
