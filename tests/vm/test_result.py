import json

import pytest

from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step, VideoFacts

VIDEO = VideoFacts("clip.mp4", 9.0, 15.0, 135, 360, 640, "h264", 0, 0.0)


def result(plan: Plan, candidates: tuple[Candidate, ...] = (), answer: Answer | None = None) -> Result:
    return Result(
        question="Größe?",
        mode="auto",
        options=(),
        plan=plan,
        query=plan.query,
        candidates=candidates,
        moments=rank_moments(candidates, plan.query or ""),
        answer=answer,
        video=VIDEO,
        fingerprint="ab" * 32,
        warnings=(),
        seconds={"planner": 0.123456, "total": 0.123456},
    )


GROUND = Plan((Step("grounder", "a red ball"), Step("verifier")), text="[]", fallback=True)
ANSWER = Plan((Step("answerer"),))


def test_a_plan_knows_what_it_does() -> None:
    assert (GROUND.grounds, GROUND.answers, GROUND.query) == (True, False, "a red ball")
    assert (ANSWER.grounds, ANSWER.answers, ANSWER.query) == (False, True, None)


def test_best_is_the_first_moment_or_nothing() -> None:
    low, high = (Candidate(Span(0, 1), 0.5, verifier_score=score) for score in (0.4, 0.6))
    best = result(GROUND, (low, high)).best
    assert best is not None
    assert best.candidate == high
    assert result(ANSWER).best is None


def test_json_keeps_the_grounders_order_in_candidates_and_the_rank_in_moments() -> None:
    low, high = (Candidate(Span(0, 1), 0.5, verifier_score=score) for score in (0.4, 0.6))
    written = json.loads(result(GROUND, (low, high)).to_json())
    assert [c["verifier_score"] for c in written["candidates"]] == [0.4, 0.6]
    assert [(m["rank"], m["verifier_score"]) for m in written["moments"]] == [(1, 0.6), (2, 0.4)]


def test_json_rounds_times_to_tenths_of_milliseconds() -> None:
    written = json.loads(result(ANSWER, answer=Answer("two", "B", Span(1 / 3, 2 / 3))).to_json())
    assert written["answer"] == {"text": "two", "option": "B", "span": {"start": 0.3333, "end": 0.6667}}
    assert written["seconds"] == {"planner": 0.1235, "total": 0.1235}


def test_json_has_null_for_an_answer_that_was_not_asked_for() -> None:
    assert json.loads(result(GROUND).to_json())["answer"] is None


def test_json_leaves_text_readable() -> None:
    assert "Größe?" in result(ANSWER).to_json()


def test_json_refuses_numbers_that_json_does_not_have() -> None:
    broken = result(GROUND, (Candidate(Span(0, 1), float("nan")),))
    with pytest.raises(ValueError, match="JSON"):
        broken.to_json()
