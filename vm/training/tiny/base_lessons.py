"""Footprints of clips to lessons: what the base is asked about them, and what it should reply."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vm.moments import Span
from vm.prompts import ChatTokenizer
from vm.scenes.clip import Clip
from vm.scenes.script import Event
from vm.scenes.wording import SceneQuestion, detail_questions, overall_questions, tell
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.sizes import CHAT_TEMPLATE
from vm.training.tiny.wording import DESCRIBE, NOTHING, letter, letter_prompt

_TOLD = 7  # events told in one description at most


@dataclass(frozen=True)
class Pupil:
    """The tokenizer, and what is written with it."""

    chat: ChatTokenizer
    end: int

    @classmethod
    def load(cls, folder: Path) -> Pupil:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        chat = ChatTokenizer(tokenizer, CHAT_TEMPLATE, "<|video_pad|>")
        return cls(chat, chat.token_id("<|im_end|>"))

    @property
    def before(self) -> tuple[int, ...]:
        return self.chat.chat("").before

    def example(
        self, prompt: str, reply: str, begun: str = "", spans: Sequence[tuple[float, float]] = ()
    ) -> Example:
        """Args: begun: the beginning of the reply, given and not learnt."""
        asked = self.chat.chat(prompt, begun)
        return Example(asked.after, (*self.chat.encode(reply), self.end), tuple(spans))


def base_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> tuple[Lesson, Span]:
    """A lesson for the base, and the span (seconds) of the clip that it shows."""
    kind = rng.random()
    if kind < 0.4:
        return _ground_lesson(pupil, footprint, rng)
    if kind < 0.85:
        return _segment_lesson(pupil, footprint, rng)
    return _whole_lesson(pupil, footprint, rng)


def _lesson(pupil: Pupil, footprint: Footprint, features: Tensor, examples: Sequence[Example]) -> Lesson:
    grid = footprint.token_grid(features)
    return Lesson(features.float(), grid, pupil.before, tuple(examples))


def _ground_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> tuple[Lesson, Span]:
    clip = footprint.clip
    everything = Span(0, clip.duration)
    examples = [pupil.example(rng.choice(DESCRIBE), _story(clip, everything, rng))]
    asked = [*overall_questions(clip.script, clip.look, rng)]
    examples += [_answered(pupil, question, rng) for question in rng.sample(asked, min(3, len(asked)))]
    return _lesson(pupil, footprint, footprint.ground, examples), everything


def _whole_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> tuple[Lesson, Span]:
    clip = footprint.clip
    asked = [*overall_questions(clip.script, clip.look, rng)]
    asked += _details(clip, Span(0, clip.duration), rng)[:2]
    examples = [_answered(pupil, question, rng) for question in asked]
    return _lesson(pupil, footprint, footprint.whole, examples), Span(0, clip.duration)


def _segment_lesson(pupil: Pupil, footprint: Footprint, rng: random.Random) -> tuple[Lesson, Span]:
    clip = footprint.clip
    event = rng.choice(clip.script.events)
    least = rng.choice((4.0, 8.0, 16.0, 32.0))
    start = event.span.start - rng.uniform(0, 0.3) * event.span.length
    end = event.span.end + rng.uniform(0, 0.3) * event.span.length
    segment = Span.clamped(start, end, clip.duration).grown(least, clip.duration)
    features, segment = cut(footprint, segment)
    examples = [_answered(pupil, question, rng) for question in _details(clip, segment, rng)[:6]]
    examples.append(pupil.example(rng.choice(DESCRIBE), _story(clip, segment, rng)))
    return _lesson(pupil, footprint, features, examples), segment


def cut(footprint: Footprint, span: Span) -> tuple[Tensor, Span]:
    """The dense features of a stretch, at least two temporal patches, and where it really lies."""
    count, duration = len(footprint.dense), footprint.clip.duration
    first = min(round(span.start / duration * count), count - 2)
    last = max(round(span.end / duration * count), first + 2)
    return footprint.dense[first:last], Span(first / count * duration, last / count * duration)


def _details(clip: Clip, segment: Span, rng: random.Random) -> list[SceneQuestion]:
    """Questions about what lies in the segment nearly whole, in random order."""
    asked = [q for q in detail_questions(clip.script, rng) if _inside(q.spans[0], segment)]
    return rng.sample(asked, len(asked))


def _inside(span: Span, segment: Span) -> bool:
    return span.intersection(segment) > 0.8 * span.length


def _answered(pupil: Pupil, asked: SceneQuestion, rng: random.Random) -> Example:
    if rng.random() < 0.8:
        return pupil.example(letter_prompt(asked), letter(asked), begun="(")
    return pupil.example(asked.question, f"{asked.answer}.")


def _story(clip: Clip, segment: Span, rng: random.Random) -> str:
    """What happens in a segment, in order of its beginning; the first of it where there is much."""
    told = [e for e in clip.script.events if e.asked and _inside(e.span, segment)]
    told.sort(key=lambda event: event.span.start)
    return ". ".join(tell(event, rng) for event in told[:_TOLD]) + "." if told else f"{NOTHING}."


def active_events(clip: Clip, time: float) -> list[Event]:
    """What is going on at a time, in seconds."""
    return [event for event in clip.script.events if event.span.start <= time < event.span.end]
