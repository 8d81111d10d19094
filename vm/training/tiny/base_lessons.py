"""Footprints of clips to lessons for the base: a little of everything its roles will be asked, and more."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from vm.moments import Span
from vm.scenes.clip import Clip
from vm.scenes.script import Event
from vm.scenes.wording import SceneQuestion, detail_questions, overall_questions, tell
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_lessons import (
    event_of,
    grounder_example,
    guessed_candidate,
    judged,
    localised,
    planner_lesson,
    some,
    verifier_lesson,
)
from vm.training.tiny.wording import DESCRIBE, NOTHING

_STORY = 7  # events told in one description at most
_GROUNDED, _OVERALL, _DETAILS, _JUDGED = 10, 5, 6, 10  # questions of each sort behind one view, at most
_SHORTEST, _LONGEST = 10.0, 40.0  # seconds of a stretch that stands for a clip


@dataclass(frozen=True)
class About:
    """An event, the words it is asked about in, and the stretch (seconds) where it is to be looked at.

    `where` is None where it is not there to be looked at.
    """

    event: Event
    text: str
    where: Span | None


@dataclass(frozen=True)
class BaseLesson:
    """A lesson, the span (seconds) of the clip that it shows, and what each example asks about.

    Attributes:
        about: per example what it asks about; None where that is no event.
    """

    lesson: Lesson
    clip: Clip
    span: Span
    about: tuple[About | None, ...] = ()


def _ground_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    shown = _window(footprint, rng)
    span = shown or Span(0, clip.duration)
    moments = [q for q in localised(footprint, rng) if _within(q.spans[0], span)][:_GROUNDED]
    asked = [q for q in some(detail_questions(clip.script, rng), _DETAILS, rng) if _within(q.spans[0], span)]
    if not shown:
        asked += some(overall_questions(clip.script, clip.look, rng), _OVERALL, rng)
    examples = [grounder_example(pupil, question, span) for question in moments]
    examples += [_answered(pupil, question) for question in asked]
    examples.append(pupil.example(rng.choice(DESCRIBE), _story(clip, span, rng)))
    features = footprint.cut(shown) if shown else footprint.ground
    about = [_about(clip, question, str(question.query), span) for question in moments]
    about += [_about(clip, question, question.question, span) for question in asked]
    return BaseLesson(pupil.lesson(features, footprint, examples), clip, span, (*about, None))


def _window(footprint: Footprint, rng: random.Random) -> Span | None:
    """A stretch of a clip, in half of all cases; costs less than the whole, and is one more clip to learn."""
    duration = footprint.clip.duration
    if duration < 2 * _SHORTEST or rng.random() < 0.5:
        return None
    length = math.exp(rng.uniform(math.log(_SHORTEST), math.log(min(duration, _LONGEST))))
    start = rng.uniform(0, duration - length)
    return footprint.fitted(Span(start, start + length))


def _within(span: Span, shown: Span) -> bool:
    return shown.start <= span.start and span.end <= shown.end


def _about(clip: Clip, asked: SceneQuestion, text: str, where: Span | None) -> About | None:
    return About(event_of(clip.script, asked), text, where) if asked.spans else None


def _whole_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    asked = [*overall_questions(clip.script, clip.look, rng)]
    asked += some(detail_questions(clip.script, rng), _DETAILS, rng)
    examples = [_answered(pupil, question) for question in asked]
    span = Span(0, clip.duration)
    about = tuple(_about(clip, question, question.question, span) for question in asked)
    return BaseLesson(pupil.lesson(footprint.whole, footprint, examples), clip, span, about)


def _segment_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    event = rng.choice(clip.script.events)
    start = event.span.start - rng.uniform(0, 0.3) * event.span.length
    end = event.span.end + rng.uniform(0, 0.3) * event.span.length
    least = rng.choice((4.0, 8.0, 8.0, 16.0, 32.0))
    segment = footprint.fitted(Span.clamped(start, end, clip.duration).grown(least, clip.duration))
    inside = [q for q in detail_questions(clip.script, rng) if _inside(q.spans[0], segment)]
    asked = some(inside, _DETAILS, rng)
    examples = [_answered(pupil, question) for question in asked]
    examples.append(pupil.example(rng.choice(DESCRIBE), _story(clip, segment, rng)))
    about = (*(_about(clip, question, question.question, segment) for question in asked), None)
    return BaseLesson(pupil.lesson(footprint.cut(segment), footprint, examples), clip, segment, about)


def _verify_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    clip = footprint.clip
    asked = localised(footprint, rng)
    if not asked:
        return _whole_lesson(pupil, footprint, rng)
    candidate = guessed_candidate(rng.choice(asked).spans[0], clip.duration, rng)
    chosen = judged(footprint, candidate, _JUDGED, rng)
    lesson, shown = verifier_lesson(pupil, footprint, candidate, chosen, rng)
    yes = pupil.chat.token_id("Yes")
    where = [candidate if example.reply[0] == yes else None for example in lesson.examples]
    about = tuple(_about(clip, q, q.question, there) for q, there in zip(chosen, where, strict=True))
    return BaseLesson(lesson, clip, shown, about)


def _plan_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> BaseLesson:
    return BaseLesson(planner_lesson(pupil, footprint, rng), footprint.clip, Span(0, footprint.clip.duration))


Sort = Callable[[Pupil, Footprint, random.Random], BaseLesson]
SORTS: dict[Sort, float] = {
    _ground_lesson: 0.36,
    _segment_lesson: 0.28,
    _whole_lesson: 0.08,
    _verify_lesson: 0.21,
    _plan_lesson: 0.07,
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
