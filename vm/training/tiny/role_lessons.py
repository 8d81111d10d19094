"""What the roles learn: planning, grounding and verifying, over the bank."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from vm.config import ChainSettings
from vm.moments import Span
from vm.roles.verifier import marks, zoomed
from vm.scenes.script import Event, Script
from vm.scenes.wording import SceneQuestion, detail_questions, when_questions
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.wording import all_questions, plan_for

ASKED = 12  # questions behind one view
_GROUNDED = "At<|reg|>"
_POSITIVE_IOU = (0.35, 0.75)
_FITS = 0.5  # IoU
_WORDINGS = 2
_CHAIN = ChainSettings()


def planner_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> Lesson:
    """Plans for whatever may be asked; the frames tell little."""
    asked = some(all_questions(footprint.clip, rng), ASKED, rng)
    examples = [pupil.role_example("planner", q.question, plan_for(q)) for q in asked]
    return pupil.lesson(footprint.dense[[0, -1]], footprint, examples)


def grounder_lesson(pupil: Pupil, footprint: Footprint, asked: Sequence[SceneQuestion]) -> Lesson:
    """Where in the whole clip each question's query is to be found."""
    whole = Span(0, footprint.clip.duration)
    examples = [grounder_example(pupil, question, whole) for question in asked]
    return pupil.lesson(footprint.ground, footprint, examples)


def grounder_example(pupil: Pupil, asked: SceneQuestion, shown: Span) -> Example:
    """Where a question's query is to be found in what is shown of a clip (seconds)."""
    spans = [
        ((span.start - shown.start) / shown.length, (span.end - shown.start) / shown.length)
        for span in asked.spans
    ]
    return pupil.role_example("grounder", str(asked.query), _GROUNDED, spans)


def localised(footprint: Footprint, rng: random.Random) -> list[SceneQuestion]:
    """All questions that need a moment, in random order."""
    script = footprint.clip.script
    asked = [*when_questions(script, rng), *detail_questions(script, rng)]
    return rng.sample(asked, len(asked))


def verifier_lesson(
    pupil: Pupil,
    footprint: Footprint,
    candidate: Span,
    asked: Sequence[SceneQuestion],
    rng: random.Random,
) -> tuple[Lesson, Span]:
    """Whether a candidate (seconds) is the moment of each of several questions; and what is shown of it.

    What IoU makes a Yes is drawn anew for each, so that P(Yes) comes to rise with the IoU all the way:
    with one bound for all, good candidates and better ones would be alike.
    """
    inner, wider = zoomed(candidate, footprint.clip.duration, _CHAIN)
    outer = footprint.fitted(wider)
    features = footprint.cut(outer)
    examples = [
        pupil.role_example(
            "verifier",
            question.question,
            "Yes" if candidate.iou(question.spans[0]) >= rng.uniform(*_POSITIVE_IOU) else "No",
        )
        for question in asked
    ]
    return pupil.lesson(features, footprint, examples, marks(inner, outer, len(features))), outer


def judged(footprint: Footprint, candidate: Span, most: int, rng: random.Random) -> list[SceneQuestion]:
    """Questions to put to a candidate: as far as there are, half that it is right for in several wordings,
    half that it is wrong for, about the likest events first."""
    script = footprint.clip.script
    fits: list[SceneQuestion] = []
    others: list[tuple[float, SceneQuestion]] = []
    for _ in range(_WORDINGS):
        for question in localised(footprint, rng):
            if candidate.iou(question.spans[0]) >= _FITS:
                fits.append(question)
            else:
                others.append((rng.random(), question))
    there = [event_of(script, question) for question in fits[:1]]
    others.sort(
        key=lambda pair: pair[0] - sum(_likeness(event_of(script, pair[1]), event) for event in there)
    )
    wrong = [question for _, question in others][: most - min(len(fits), most // 2)]
    return [*some(fits, most - len(wrong), rng), *wrong]


def event_of(script: Script, asked: SceneQuestion) -> Event:
    """The event that a question is about."""
    return next(e for e in script.events if e.span == asked.spans[0] and e.action == asked.topic)


def _likeness(event: Event, other: Event) -> float:
    """What two events have in common; less than 1 leaves room for chance."""
    same = (event.action == other.action, event.actor is other.actor, event.actor.kind == other.actor.kind)
    return 0.4 * sum(same)


def guessed_candidate(true: Span, duration: float, rng: random.Random) -> Span:
    """As a grounder might propose: the true span more or less well, or something else."""
    if rng.random() < 0.15:
        ends = rng.uniform(0, duration), rng.uniform(0, duration)
        return Span.clamped(*ends, duration).grown(2.0, duration)
    blur = rng.choice((0.05, 0.1, 0.2, 0.4)) * true.length
    start, end = true.start + rng.gauss(0, blur), true.end + rng.gauss(0, blur)
    return Span.clamped(start, end, duration).grown(1.0, duration)


def some(asked: Iterable[SceneQuestion], most: int, rng: random.Random) -> list[SceneQuestion]:
    """At most so many, in random order."""
    known = list(asked)
    return rng.sample(known, min(most, len(known)))
