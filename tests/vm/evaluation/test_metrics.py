import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.evaluation.made import prediction, sample
from vm.evaluation.metrics import CGBENCH_FIGURES, FIGURES, Score, chosen_option, score, union_iou
from vm.moments import Span

GROUNDED = sample(
    spans=[(10, 20), (40, 50)],
    options=("red", "blue"),
    answer="blue",
    mode="ground-answer",
    query="a dog barks",
)
spans = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda ends: Span(*sorted(ends)))


def test_each_span_is_held_against_the_true_one_that_suits_it_best() -> None:
    found = score(GROUNDED, prediction(GROUNDED, (40, 45), (15, 25), (0, 5)))
    assert found.ious == pytest.approx((0.5, 1 / 3, 0))
    assert found.iops == pytest.approx((1, 0.5, 0))
    assert found.union_iou == pytest.approx(5 / 20)
    assert found.localised
    named = {name: FIGURES[name](found) for name in ("R1@0.5", "R1@0.7", "R3@0.3", "mIoU", "mIoP")}
    assert named == {"R1@0.5": 1.0, "R1@0.7": 0.0, "R3@0.3": 1.0, "mIoU": 0.5, "mIoP": 1.0}
    assert CGBENCH_FIGURES["rec.@IoU"](found) == pytest.approx(0.4)


def test_spans_after_the_fifth_are_not_looked_at() -> None:
    found = score(GROUNDED, prediction(GROUNDED, *[(0, 1)] * 5, (10, 20)))
    assert FIGURES["R5@0.3"](found) == 0.0


@pytest.mark.parametrize(("reply", "right"), [("B", True), ("A", False), ("C", False), (None, False)])
def test_an_answer_counts_as_grounded_with_a_moment_that_hits(reply: str | None, right: bool) -> None:
    hit = score(GROUNDED, prediction(GROUNDED, (10, 14), reply=reply))
    missed = score(GROUNDED, prediction(GROUNDED, (16, 30), reply=reply))
    assert hit.answer is missed.answer is right
    assert hit.replied is (reply in ("A", "B"))
    assert FIGURES["Acc (IoP ≥ 0.5)"](hit) == float(right)
    assert FIGURES["Acc (IoU ≥ 0.5)"](hit) == 0.0
    assert FIGURES["Acc (IoP ≥ 0.5)"](missed) == 0.0
    assert CGBENCH_FIGURES["acc.@IoU"](hit) == pytest.approx(0.4 * right)


def test_a_failed_prediction_is_wrong_in_everything_that_was_asked() -> None:
    failed = prediction(GROUNDED, error="no such file", planned=True, duration=None)
    found = score(GROUNDED, failed)
    assert found == Score(False, False, (), (), 0.0, False, False, False)
    assert {figure(found) for figure in FIGURES.values()} == {0.0}
    assert {figure(found) for figure in CGBENCH_FIGURES.values()} == {0.0}


def test_what_is_not_asked_is_not_judged() -> None:
    nothing = sample()
    found = score(nothing, prediction(nothing, (1, 2), planned=True, route="ground", reply="A"))
    assert found == Score()
    assert {figure(found) for figure in FIGURES.values()} == {None}


def test_a_route_is_judged_where_a_planner_was_asked() -> None:
    planned = prediction(GROUNDED, planned=True, route="ground-answer", query=" a dog\nbarks.")
    assert (score(GROUNDED, planned).route, score(GROUNDED, planned).query) == (True, True)
    unusable = score(GROUNDED, prediction(GROUNDED, planned=True, query="what barks?"))
    assert (unusable.route, unusable.query) == (False, False)
    assert score(GROUNDED, prediction(GROUNDED)).route is None
    whole = sample(mode="answer")
    assert score(whole, prediction(whole, planned=True, route="answer")).query is None


def test_spans_that_stand_in_are_graded_but_not_localised() -> None:
    found = score(GROUNDED, prediction(GROUNDED, (10, 20), fallback=True))
    assert found.ious == (1.0,)
    assert not found.localised


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        *(("B", 1), ("(b) a dog", 1), ("c.", 2), ("D", 3), ("Because", 1)),
        *(("", None), ("(", None), (" B", None), ("E", None), ("7", None), ("ß", None)),
    ],
)
def test_a_reply_names_an_option_by_its_first_letter(reply: str, chosen: int | None) -> None:
    assert chosen_option(reply, 4) == chosen


@given(spans, spans)
def test_the_union_with_one_span_is_the_ordinary_one(one: Span, other: Span) -> None:
    assert union_iou(one, [other]) == pytest.approx(one.iou(other))


@given(spans, st.lists(spans, min_size=1, max_size=3))
def test_figures_are_shares(predicted: Span, truths: list[Span]) -> None:
    asked = sample(spans=[(t.start, t.end) for t in truths], options=("a", "b"), answer="a")
    found = score(asked, prediction(asked, (predicted.start, predicted.end), reply="A"))
    for figure in FIGURES.values():
        assert figure(found) is None or 0 <= (figure(found) or 0.0) <= 1 + 1e-9
    for depth in (1, 3, 5):
        recalls = [FIGURES[f"R{depth}@{least}"](found) or 0.0 for least in (0.3, 0.5, 0.7)]
        assert recalls == sorted(recalls, reverse=True)
