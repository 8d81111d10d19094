import random

import pytest

from vm.roles.planner import parse_plan
from vm.scenes.clip import clips
from vm.scenes.wording import detail_questions, overall_questions, when_questions
from vm.training.tiny.wording import plan_for

SOME = list(clips("validation", 120))


def _all(clip):
    rng = random.Random(clip.seed)
    yield from when_questions(clip.script, rng)
    yield from detail_questions(clip.script, rng)
    yield from overall_questions(clip.script, clip.look, rng)


def test_the_answer_is_one_of_the_options_and_no_option_is_there_twice() -> None:
    for clip in SOME:
        for asked in _all(clip):
            if asked.options:
                assert asked.answer in asked.options
                assert len(set(asked.options)) == len(asked.options) >= 2


def test_modes_go_with_what_is_asked() -> None:
    for clip in SOME:
        for asked in _all(clip):
            assert bool(asked.spans) == bool(asked.query) == (asked.mode != "answer")
            assert bool(asked.options) == (asked.mode != "ground")


def test_a_query_that_names_no_colour_means_the_only_one_of_its_kind() -> None:
    for clip in SOME:
        for asked in when_questions(clip.script, random.Random(0)):
            if asked.query.startswith("a "):
                event = next(e for e in clip.script.events if e.span == asked.spans[0])
                alike = [e for e in clip.script.events if e.action == event.action]
                assert sum(e.actor.kind == event.actor.kind for e in alike) == 1


@pytest.mark.parametrize("mode", ["ground", "ground-answer", "answer"])
def test_every_mode_is_asked_for_often(mode) -> None:
    asked = [question.mode for clip in SOME for question in clip.questions]
    assert asked.count(mode) > len(SOME) * 0.8


def test_plans_are_what_the_planner_may_write() -> None:
    roles = {"ground": ["grounder", "verifier"], "answer": ["answerer"]}
    roles["ground-answer"] = [*roles["ground"], *roles["answer"]]
    for clip in SOME[:40]:
        for asked in _all(clip):
            steps = parse_plan(plan_for(asked))
            assert steps is not None
            assert [step.role for step in steps] == roles[asked.mode]
            assert steps[0].query == asked.query


def test_a_composition_clip_is_asked_about_what_is_held_out_first() -> None:
    asked = [clip.questions for clip in clips("test", 60, composition=True)]
    assert sum(any(question.held_out for question in some) for some in asked) > 30
