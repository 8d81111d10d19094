"""The answerer answers from a segment (paper section 3.5): the bare base, unless it has an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from vm.cast import Cast
from vm.footage import Footage
from vm.moments import Span
from vm.result import Answer
from vm.subtitles import Cue, cues_within

MAX_OPTIONS = len(ascii_uppercase)
_MAX_CUES = 100
_MAX_HEARD_CHARACTERS = 20_000  # far more than people say in 100 cues, and still a prompt that fits


def answer(
    cast: Cast,
    footage: Footage,
    question: str,
    segment: Span,
    options: Sequence[str] = (),
    subtitles: Sequence[Cue] = (),
) -> Answer:
    """Answer from a segment (seconds) of the video, in words or by choosing one of the options.

    Subtitles are told to the model only as far as they lie within the segment.
    """
    text = _heard(cues_within(subtitles, segment), segment) + question
    with cast.playing("answerer", footage):
        if options:
            chosen = _choose(cast, footage, with_options(text, options), segment, len(options))
            return Answer(options[chosen], ascii_uppercase[chosen], segment)
        return Answer(cast.write("answerer", footage, text, segment).strip(), None, segment)


def _choose(cast: Cast, footage: Footage, text: str, segment: Span, count: int) -> int:
    """The option whose letter is likeliest to come next: one pass, and never an answer that is no option."""
    letters = [cast.chat.token_id(letter) for letter in ascii_uppercase[:count]]
    prompt = cast.prompt("answerer", text, reply="(")
    view = footage.view(cast.settings("answerer"), segment)
    prefixes = cast.prefixes("answerer", footage, prompt, [view])
    state = footage.follow(prefixes, [prompt])[0]
    return int(cast.backbone.next_token_logits(state[None])[0, letters].argmax())


def with_options(text: str, options: Sequence[str]) -> str:
    listed = "".join(
        f"\n({letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)
    )
    return f"{text}\nChoose from:{listed}\nReply with the letter of the right choice."


def _heard(cues: Sequence[Cue], segment: Span) -> str:
    if not cues:
        return ""
    lines = "".join(f"{cue.span.start:.1f}-{cue.span.end:.1f} s: {cue.text}\n" for cue in cues[:_MAX_CUES])
    heard = lines[:_MAX_HEARD_CHARACTERS]
    return f"The video lasts {segment.length:.1f} seconds. What is said in it:\n{heard}\n"
