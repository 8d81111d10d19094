import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vm.moments import Candidate, Span, rank_moments, suppress

DURATION = 100.0
FUZZ = 1e-9

seconds = st.floats(0, DURATION)
spans = st.tuples(seconds, seconds).map(lambda ends: Span(*sorted(ends)))
wild = st.floats(-1e6, 1e6)
# Few distinct confidences, so that ties are common.
confidences = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
candidates = st.lists(st.builds(Candidate, spans, confidences), max_size=12)


def inside(span: Span, duration: float = DURATION) -> bool:
    return 0 <= span.start <= span.end <= duration


@pytest.mark.parametrize("ends", [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0), (0.0, math.nan)])
def test_bounds_that_are_no_span_are_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not a span"):
        Span(*ends)


@given(wild, wild)
def test_clamped_bounds_lie_in_the_video_in_order(start: float, end: float) -> None:
    assert inside(Span.clamped(start, end, DURATION))


@given(spans)
def test_clamping_what_lies_inside_changes_nothing(span: Span) -> None:
    assert Span.clamped(span.end, span.start, DURATION) == span


@given(spans, st.floats(0, 2 * DURATION))
def test_grown_span_has_the_minimum_length_or_is_the_whole_video(span: Span, minimum: float) -> None:
    grown = span.grown(minimum, DURATION)
    assert inside(grown)
    assert grown.length >= min(minimum, DURATION) - FUZZ


@given(spans, st.floats(0, 2 * DURATION))
def test_grown_span_still_covers_the_span(span: Span, minimum: float) -> None:
    grown = span.grown(minimum, DURATION)
    assert grown.start <= span.start + FUZZ
    assert grown.end >= span.end - FUZZ


@given(spans)
def test_a_long_enough_span_does_not_grow(span: Span) -> None:
    assert span.grown(span.length, DURATION) == span


def test_a_span_grows_around_its_centre_and_moves_only_at_the_edge() -> None:
    assert Span(50, 52).grown(10, DURATION) == Span(46, 56)
    assert Span(1, 3).grown(10, DURATION) == Span(0, 10)
    assert Span(99, 100).grown(10, DURATION) == Span(90, 100)


@given(spans, st.floats(0, 5))
def test_widened_span_covers_the_span_and_stays_inside(span: Span, fraction: float) -> None:
    widened = span.widened(fraction, DURATION)
    assert inside(widened)
    assert widened.start <= span.start
    assert widened.end >= span.end


def test_widening_adds_the_fraction_on_both_sides() -> None:
    assert Span(40, 44).widened(0.5, DURATION) == Span(38, 46)


@given(spans, spans)
def test_iou_is_symmetric_and_a_fraction(one: Span, other: Span) -> None:
    assert one.iou(other) == pytest.approx(other.iou(one))
    assert 0 <= one.iou(other) <= 1 + FUZZ


@given(spans, spans)
def test_iop_is_a_fraction_and_never_below_iou(one: Span, other: Span) -> None:
    assert 0 <= one.iop(other) <= 1
    assert one.iop(other) >= one.iou(other) - FUZZ


@given(spans)
def test_a_span_overlaps_itself_wholly_unless_it_is_empty(span: Span) -> None:
    expected = 1.0 if span.length > 0 else 0.0
    assert span.iou(span) == expected
    assert span.iop(span) == expected


def test_iou_and_iop_of_a_known_pair() -> None:
    assert Span(0, 10).iou(Span(5, 15)) == pytest.approx(1 / 3)
    assert Span(0, 10).iop(Span(5, 25)) == 0.5
    assert Span(5, 25).iop(Span(0, 10)) == 0.25
    assert Span(0, 1).iou(Span(1, 2)) == 0


@given(candidates, st.floats(0.05, 1))
def test_no_two_kept_spans_overlap_as_much_as_the_threshold(given: list[Candidate], threshold: float) -> None:
    kept = suppress(given, threshold)
    pairs = [(a, b) for i, a in enumerate(kept) for b in kept[:i]]
    assert all(a.span.iou(b.span) < threshold for a, b in pairs)


@given(candidates, st.floats(0.05, 1))
def test_everything_suppressed_overlaps_something_kept_and_no_less_confident(
    given: list[Candidate], threshold: float
) -> None:
    kept = suppress(given, threshold)
    for candidate in given:
        better = [other for other in kept if other.confidence >= candidate.confidence]
        assert candidate in kept or any(other.span.iou(candidate.span) >= threshold for other in better)


@given(candidates, st.floats(0.05, 1))
def test_suppressing_twice_changes_nothing(given: list[Candidate], threshold: float) -> None:
    once = suppress(given, threshold)
    assert suppress(once, threshold) == once


@given(candidates, st.floats(0.05, 1), st.integers(1, 5))
def test_a_limit_cuts_what_is_kept_and_changes_nothing_else(
    given: list[Candidate], threshold: float, limit: int
) -> None:
    assert suppress(given, threshold, limit) == suppress(given, threshold)[:limit]


def test_an_overlap_of_exactly_the_threshold_is_suppressed() -> None:
    whole, most = Candidate(Span(0, 4), 0.9), Candidate(Span(0, 3), 0.8)
    assert suppress([most, whole], 0.75) == [whole]


def test_suppression_keeps_the_given_order_among_equals() -> None:
    equals = [Candidate(Span(i, i + 1), 0.5) for i in (3, 1, 2)]
    assert suppress(equals, 0.75) == equals


@given(candidates, st.lists(st.sampled_from([0.3, 0.5, 0.7]), min_size=12, max_size=12))
def test_moments_rank_by_verifier_score_and_keep_the_order_of_equals(
    given: list[Candidate], scores: list[float]
) -> None:
    verified = [
        Candidate(candidate.span, place, verifier_score=score)
        for place, (candidate, score) in enumerate(zip(given, scores, strict=False))
    ]
    ranked = rank_moments(verified, "a dog")
    places = [(-(m.candidate.verifier_score or 0), m.candidate.confidence) for m in ranked]
    assert places == sorted(places)
    assert [m.rank for m in ranked] == list(range(1, len(given) + 1))
    assert {m.query for m in ranked} <= {"a dog"}


chances = st.floats(0, 1)


def _judged(confidence: float, p_yes: float, p_no: float) -> Candidate:
    score = 1 / (1 + math.exp(p_no - p_yes))
    return Candidate(Span(0, 1), confidence, p_yes=p_yes, p_no=p_no, verifier_score=score)


@given(st.lists(st.builds(_judged, chances, chances, chances), min_size=1), st.floats(0.1, 5))
def test_where_the_grounder_counts_too_nobody_beats_the_first_in_both(
    judged: list[Candidate], weight: float
) -> None:
    ranked = [moment.candidate for moment in rank_moments(judged, "", weight)]
    best = ranked[0]
    for other in ranked:
        likelier = (other.p_yes or 0) >= (best.p_yes or 0) and (other.p_no or 0) <= (best.p_no or 0)
        assert not (likelier and other.confidence >= best.confidence + 0.01)


def test_how_much_the_grounder_counts_decides_between_two_witnesses() -> None:
    liked, sure = _judged(0.4, 0.6, 0.4), _judged(0.8, 0.4, 0.6)
    assert rank_moments([sure, liked], "")[0].candidate is liked
    assert rank_moments([sure, liked], "", 0.1)[0].candidate is liked
    assert rank_moments([liked, sure], "", 1.0)[0].candidate is sure


@given(candidates)
def test_unverified_moments_keep_the_grounders_order(given: list[Candidate]) -> None:
    assume(given)
    half_verified = [*given, Candidate(given[0].span, 0.1, verifier_score=0.7)]
    assert [m.candidate for m in rank_moments(half_verified, "")] == half_verified
