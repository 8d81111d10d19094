"""Footprints of clips to lessons for the base: a little of everything its roles will be asked, and more."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from vm.moments import Span
from vm.scenes.clip import Clip
from vm.scenes.wording import SceneQuestion, detail_questions, overall_questions, tell
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_lessons import (
    grounder_example,
    guessed_candidate,
    localised,
    planner_lesson,
    some,
    verifier_lesson,
)
from vm.training.tiny.wording import DESCRIBE, NOTHING

_STORY = 7  # events told in one description at most
_GROUNDED, _OVERALL, _DETAILS = 10, 5, 6  # questions of each sort behind one view, at most


@dataclass(frozen=True)
class BaseLesson:
    """A lesson, and the span (seconds) of the clip that it shows."""

    lesson: Lesson
    clip: Clip
    span: Span


def _ground_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    everything = Span(0, clip.duration)
    moments = some(localised(footprint, rng), _GROUNDED, rng)
    asked = some(overall_questions(clip.script, clip.look, rng), _OVERALL, rng)
    asked += some(detail_questions(clip.script, rng), _DETAILS, rng)
    examples = [grounder_example(pupil, footprint, question) for question in moments]
    examples += [_answered(pupil, question) for question in asked]
    examples.append(pupil.example(rng.choice(DESCRIBE), _story(clip, everything, rng)))
    return BaseLesson(pupil.lesson(footprint.ground, footprint, examples), clip, everything)


def _whole_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    asked = [*overall_questions(clip.script, clip.look, rng)]
    asked += some(detail_questions(clip.script, rng), _DETAILS, rng)
    examples = [_answered(pupil, question) for question in asked]
    return BaseLesson(pupil.lesson(footprint.whole, footprint, examples), clip, Span(0, clip.duration))


def _segment_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    event = rng.choice(clip.script.events)
    start = event.span.start - rng.uniform(0, 0.3) * event.span.length
    end = event.span.end + rng.uniform(0, 0.3) * event.span.length
    least = rng.choice((4.0, 8.0, 8.0, 16.0, 32.0))
    segment = footprint.fitted(Span.clamped(start, end, clip.duration).grown(least, clip.duration))
    inside = [q for q in detail_questions(clip.script, rng) if _inside(q.spans[0], segment)]
    examples = [_answered(pupil, question) for question in some(inside, _DETAILS, rng)]
    examples.append(pupil.example(rng.choice(DESCRIBE), _story(clip, segment, rng)))
    return BaseLesson(pupil.lesson(footprint.cut(segment), footprint, examples), clip, segment)


def _verify_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    asked = localised(footprint, rng)
    if not asked:
        return _whole_lesson(pupil, footprint, rng)
    candidate = guessed_candidate(rng.choice(asked).spans[0], footprint.clip.duration, rng)
    lesson, shown = verifier_lesson(pupil, footprint, candidate, asked[:_GROUNDED], rng)
    return BaseLesson(lesson, footprint.clip, shown)


def _plan_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    return BaseLesson(planner_lesson(pupil, footprint, rng), footprint.clip, Span(0, footprint.clip.duration))


Sort = Callable[[Pupil, Footprint, random.Random], BaseLesson]
SORTS: dict[Sort, float] = {
    _ground_lesson: 0.45,
    _segment_lesson: 0.2,
    _whole_lesson: 0.1,
    _verify_lesson: 0.1,
    _plan_lesson: 0.15,
}


def draw_sort(rng: random.Random) -> Sort:
    """A sort of lesson, each as often as it is worth."""
    return rng.choices(list(SORTS), list(SORTS.values()))[0]


def _inside(span: Span, segment: Span) -> bool:
    return span.intersection(segment) > 0.8 * span.length


def _answered(pupil: Pupil, asked: SceneQuestion) -> Example:
    return pupil.example(asked.question, f"{asked.answer}.")


def _story(clip: Clip, segment: Span, rng: random.Random) -> str:
    """What happens in a segment, in order of its beginning; the first of it where there is much."""
    told = [e for e in clip.script.events if e.asked and _inside(e.span, segment)]
    told.sort(key=lambda event: event.span.start)
    return ". ".join(tell(event, rng) for event in told[:_STORY]) + "." if told else f"{NOTHING}."
