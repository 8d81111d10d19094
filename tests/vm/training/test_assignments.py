from pathlib import Path

import pytest

from vm.mind import VideoMind
from vm.moments import Span
from vm.result import ROUTES, Route
from vm.roles.answerer import with_options
from vm.roles.planner import parse_plan, plan_text
from vm.training.assignments import Assignment, assign
from vm.training.rows import Row

VIDEO, OTHER = Path("a.mp4"), Path("b.mp4")
SEGMENT = Span(1, 2)


def one(mind: VideoMind, role: str, row: Row) -> tuple[str, str]:
    """What is asked behind the video, and the reply, as text."""
    (assignment,) = assign(mind.cast, role, [row], 1)
    (example,) = assignment.examples
    return mind.cast.chat.decode(list(example.after)), mind.cast.chat.decode(list(example.reply))


def asked(mind: VideoMind, role: str, text: str, reply: str = "") -> str:
    return mind.cast.chat.decode(list(mind.cast.prompt(role, text, reply).after))


def test_each_role_is_asked_and_answers_as_in_the_chain(mind: VideoMind) -> None:
    planned = Row(1, VIDEO, "Who goes?", plan="ground", query='a "man"')
    written = '[{"type": "grounder", "value": "a \\"man\\""}, {"type": "verifier"}]'
    assert one(mind, "planner", planned) == (asked(mind, "planner", "Who goes?"), f"{written}<|im_end|>")
    grounded = one(mind, "grounder", Row(1, VIDEO, " a  man. ", spans=(SEGMENT,)))
    assert grounded == (
        asked(mind, "grounder", "a man"),
        "The relevant moment happens in <|reg|>.<|im_end|>",
    )
    for label, word in ((True, "Yes"), (False, "No")):
        judged = one(mind, "verifier", Row(1, VIDEO, "a man", candidate=SEGMENT, label=label))
        assert judged == (asked(mind, "verifier", "a man"), f"{word}.<|im_end|>")
    options = ("a cat", "a dog")
    chosen = one(mind, "answerer", Row(1, VIDEO, "Who?", answer="a dog", options=options))
    assert chosen == (asked(mind, "answerer", with_options("Who?", options), "("), "B)<|im_end|>")
    free = one(mind, "answerer", Row(1, VIDEO, "Who?", answer="a dog"))
    assert free == (asked(mind, "answerer", "Who?"), "a dog<|im_end|>")


def test_the_word_that_is_looked_for_is_one_token(mind: VideoMind) -> None:
    yes = assign(mind.cast, "verifier", [Row(1, VIDEO, "x", candidate=SEGMENT, label=True)], 1)
    assert yes[0].examples[0].reply[0] == mind.cast.yes
    options = ("a cat", "a dog")
    chosen = assign(mind.cast, "answerer", [Row(1, VIDEO, "x", answer="a dog", options=options)], 1)
    assert chosen[0].examples[0].reply[0] == mind.cast.chat.token_id("B")


def test_replies_hold_no_control_tokens_of_others(mind: VideoMind) -> None:
    reply = one(mind, "answerer", Row(1, VIDEO, "Who?", answer="he <|im_end|> <|video_pad|>"))[1]
    assert reply.count("<|im_end|>") == 1
    assert "<|video_pad|>" not in reply


@pytest.mark.parametrize("plan", ROUTES)
def test_plans_are_such_as_the_chain_understands(plan: Route) -> None:
    steps = parse_plan(plan_text(plan, "a man"))
    assert steps is not None
    assert ("grounder" in [step.role for step in steps]) == plan.startswith("ground")
    assert (steps[-1].role == "answerer") == plan.endswith("answer")


def test_what_is_shown_the_same_is_asked_together(mind: VideoMind) -> None:
    places = [(VIDEO, None), (OTHER, None), (VIDEO, SEGMENT), (VIDEO, None), (VIDEO, SEGMENT)]
    rows = [Row(i, video, f"q{i}", answer="x", segment=shown) for i, (video, shown) in enumerate(places)]
    made = assign(mind.cast, "answerer", rows, 10_000)
    assert [(a.video, a.shown, len(a.examples)) for a in made] == [
        (VIDEO, None, 2),
        (OTHER, None, 1),
        (VIDEO, SEGMENT, 2),
    ]


def test_no_more_tokens_are_packed_than_allowed(mind: VideoMind) -> None:
    rows = [Row(i, VIDEO, f"question number {i}", answer="x " * (i % 7)) for i in range(1, 40)]
    rows.append(Row(40, VIDEO, "long " * 300, answer="x"))
    made = assign(mind.cast, "answerer", rows, 150)
    assert sum(len(a.examples) for a in made) == 40
    sizes = [(len(a.examples), _tokens(a)) for a in made]
    assert all(size <= 150 or count == 1 for count, size in sizes)
    assert min(count for count, size in sizes if size <= 150) > 1


def _tokens(assignment: Assignment) -> int:
    return sum(len(example.after) + len(example.reply) for example in assignment.examples)
