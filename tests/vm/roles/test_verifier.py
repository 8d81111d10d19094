import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vm.config import ChainSettings
from vm.footage import Footage
from vm.mind import VideoMind
from vm.moments import Candidate, Span
from vm.roles.verifier import verify, zoomed_view

CHAIN = ChainSettings()
QUESTION = "When does the dark disc move left?"
seconds = st.floats(0, 24)


@pytest.mark.parametrize(
    ("span", "first", "last", "patches", "marked"),
    [
        (Span(8, 12), 60, 140, 8, (2, 6)),
        (Span(0, 4), 0, 60, 6, (0, 4)),
        (Span(20, 24), 180, 239, 6, (2, 6)),
        (Span(10, 10), 80, 120, 4, (1, 3)),
        (Span(0, 24), 0, 239, 24, (0, 24)),
    ],
)
def test_a_candidate_is_shown_widened_with_its_own_stretch_marked(
    mind: VideoMind,
    footage: Footage,
    span: Span,
    first: int,
    last: int,
    patches: int,
    marked: tuple[int, int],
) -> None:
    view = zoomed_view(mind.cast, footage, span, CHAIN)
    assert (view.indices[0], view.indices[-1]) == (first, last)
    assert (view.token_grid[0], view.marked) == (patches, marked)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ends=st.tuples(seconds, seconds))
def test_marks_lie_in_order_within_the_view(
    mind: VideoMind, footage: Footage, ends: tuple[float, float]
) -> None:
    view = zoomed_view(mind.cast, footage, Span(*sorted(ends)), CHAIN)
    assert view.marked is not None
    assert 0 <= view.marked[0] < view.marked[1] <= view.token_grid[0] <= 32


def test_candidates_keep_their_order_and_what_the_grounder_said(mind: VideoMind, footage: Footage) -> None:
    candidates = [Candidate(Span(8, 12), 0.25), Candidate(Span(0, 4), 0.75, fallback=True)]
    verified = verify(mind.cast, footage, QUESTION, candidates, CHAIN)
    assert [(c.span, c.confidence, c.fallback) for c in verified] == [
        (c.span, c.confidence, c.fallback) for c in candidates
    ]


def test_the_score_is_the_sigmoid_of_yes_minus_no(mind: VideoMind, footage: Footage) -> None:
    for candidate in verify(
        mind.cast, footage, QUESTION, [Candidate(Span(s, s + 4), 0.5) for s in (0, 9)], CHAIN
    ):
        assert candidate.p_yes is not None
        assert candidate.p_no is not None
        assert 0 <= candidate.p_yes + candidate.p_no <= 1
        expected = 1 / (1 + math.exp(candidate.p_no - candidate.p_yes))
        assert candidate.verifier_score == pytest.approx(expected)
        assert 0.268 < expected < 0.732


def test_the_question_and_the_marked_stretch_decide(mind: VideoMind, footage: Footage) -> None:
    asked = {
        (question, span): verify(mind.cast, footage, question, [Candidate(span, 0.5)], CHAIN)[0].p_yes
        for question in (QUESTION, "Is there a tree?")
        for span in (Span(0, 4), Span(12, 16))
    }
    assert len(set(asked.values())) == 4
