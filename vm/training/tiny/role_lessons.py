"""What the roles learn: planning, grounding and verifying, over the bank."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import Tensor

from vm.config import ChainSettings
from vm.moments import Span
from vm.roles.verifier import marks, zoomed
from vm.scenes.wording import SceneQuestion, detail_questions, when_questions
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.base_lessons import Pupil, cut
from vm.training.tiny.sizes import ROLES
from vm.training.tiny.wording import all_questions, plan_for
from vm.training.verifier_data import POSITIVE_IOU

_ASKED = 12  # questions behind one view
GROUNDED = "At<|reg|>"
_CHAIN = ChainSettings()


def planner_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> Lesson:
    """Plans for whatever may be asked; the frames tell little."""
    asked = some(all_questions(footprint.clip, rng), rng)
    examples = [pupil.example(_prompt("planner", q.question), plan_for(q)) for q in asked]
    return _lesson(pupil, footprint, footprint.dense[[0, -1]], examples)


def grounder_lesson(pupil: Pupil, footprint: Footprint, asked: Sequence[SceneQuestion]) -> Lesson:
    """Where each question's query is to be found."""
    duration = footprint.clip.duration
    examples = []
    for question in asked:
        spans = [(span.start / duration, span.end / duration) for span in question.spans]
        examples.append(pupil.example(_prompt("grounder", str(question.query)), GROUNDED, spans=spans))
    return _lesson(pupil, footprint, footprint.ground, examples)


def localised(footprint: Footprint, rng: random.Random) -> list[SceneQuestion]:
    """All questions that need a moment."""
    return [*when_questions(footprint.clip.script, rng), *detail_questions(footprint.clip.script, rng)]


def verifier_lesson(
    pupil: Pupil, footprint: Footprint, candidate: Span, asked: Sequence[SceneQuestion]
) -> Lesson:
    """Whether a candidate (seconds) is the moment of each of several questions."""
    inner, wider = zoomed(candidate, footprint.clip.duration, _CHAIN)
    features, outer = cut(footprint, wider)
    examples = [
        pupil.example(
            _prompt("verifier", question.question),
            "Yes" if candidate.iou(question.spans[0]) >= POSITIVE_IOU else "No",
        )
        for question in asked
    ]
    return _lesson(pupil, footprint, features, examples, marks(inner, outer, len(features)))


def some(asked: Sequence[SceneQuestion], rng: random.Random) -> list[SceneQuestion]:
    """As many as are packed behind one view, in random order."""
    return rng.sample(asked, min(_ASKED, len(asked)))


def _prompt(role: str, text: str) -> str:
    return str(ROLES[role]["prompt"]).format(text)


def _lesson(
    pupil: Pupil,
    footprint: Footprint,
    features: Tensor,
    examples: Sequence[Example],
    marked: tuple[int, int] | None = None,
) -> Lesson:
    grid = footprint.token_grid(features)
    return Lesson(features.float(), grid, pupil.before, tuple(examples), marked)
