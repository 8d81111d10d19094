from dataclasses import replace
from typing import Any

import pytest

from tests.vm.evaluation.made import sample
from vm.evaluation.samples import Sample, route_of
from vm.moments import Span
from vm.result import Plan, Step
from vm.roles.planner import default_steps


def test_a_sample_is_known_by_what_is_asked_and_not_by_what_is_right() -> None:
    first = sample(options=("a", "b"), answer="a")
    corrected = replace(first, answer="b", spans=(Span(1, 2),), mode="answer", groups=("x",))
    assert corrected.id == first.id
    others = [replace(first, video="b.mp4"), replace(first, question="Why?"), sample()]
    assert len({first.id, *(other.id for other in others)}) == 4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"question": " "}, "empty"),
        ({"options": ("a", "b"), "answer": "c"}, "'c' is none of the options"),
        ({"options": ("a", "b")}, "None is none of the options"),
        ({"mode": "auto"}, "unknown mode 'auto'"),
        ({"duration": 0}, "the duration is 0"),
        ({"duration": float("nan")}, "the duration is nan"),
        ({"duration": "12"}, "the duration is '12'"),
        ({"duration": True}, "the duration is True"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sample(**{"video": "a.mp4", "question": "When?"} | wrong)


def test_a_plan_is_one_of_three_routes_or_unusable() -> None:
    steps = default_steps("a dog")
    assert route_of(Plan(steps)) == "ground-answer"
    assert route_of(Plan(steps[:1])) == "ground"
    assert route_of(Plan((Step("answerer"),))) == "answer"
    assert route_of(Plan(steps, text="?", fallback=True)) is None
