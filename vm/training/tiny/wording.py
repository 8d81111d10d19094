"""The world's texts as the model is to read and write them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vm.roles.planner import plan_text
from vm.scenes.clip import Clip
from vm.scenes.wording import (
    SceneQuestion,
    detail_questions,
    overall_questions,
    tell,
    when_questions,
)

DESCRIBE = ("Describe what happens.", "What happens here?", "Tell what happens.")
NOTHING = "nothing happens"


def plan_for(asked: SceneQuestion) -> str:
    """The plan that a question calls for."""
    return plan_text(asked.mode, asked.query or "")


def all_questions(clip: Clip, rng: random.Random) -> list[SceneQuestion]:
    """Everything that can be asked of a clip, in one wording each."""
    return [
        *when_questions(clip.script, rng),
        *detail_questions(clip.script, rng),
        *overall_questions(clip.script, clip.look, rng),
    ]


def corpus(clips: Iterator[Clip]) -> Iterator[str]:
    """Every kind of text that occurs, to make the tokenizer from."""
    for clip in clips:
        rng = random.Random(f"corpus {clip.seed}")  # noqa: S311
        yield from DESCRIBE
        yield from (f"{tell(event, rng)}. {NOTHING}." for event in clip.script.events)
        for asked in all_questions(clip, rng):
            yield from (asked.question, plan_for(asked), "Yes", "No")
            yield from asked.options
