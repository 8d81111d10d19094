"""The answerer answers from a segment (paper section 3.5): the bare base, unless it has an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from vm.cast import Cast
from vm.footage import Footage, Prefix
from vm.moments import Span
from vm.prompts import ChatPrompt
from vm.result import Answer
from vm.subtitles import Cue, cues_within

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
            by_words = cast.settings("answerer").choose_by == "words"
            choose = _likeliest_reply if by_words else _likeliest_letter
            chosen = choose(cast, footage, text, segment, options)
            return Answer(options[chosen], ascii_uppercase[chosen], segment)
        return Answer(cast.write("answerer", footage, text, segment).strip(), None, segment)


def _likeliest_letter(cast: Cast, footage: Footage, text: str, segment: Span, options: Sequence[str]) -> int:
    """The option whose letter is likeliest to come next: one pass, and never an answer that is no option."""
    letters = [cast.chat.token_id(letter) for letter in ascii_uppercase[: len(options)]]
    prompt = cast.prompt("answerer", with_options(text, options), reply="(")
    prefix = _prefix(cast, footage, prompt, segment)
    state = footage.follow([prefix], [prompt])[0]
    return int(cast.backbone.next_token_logits(state[None])[0, letters].argmax())


def _likeliest_reply(cast: Cast, footage: Footage, text: str, segment: Span, options: Sequence[str]) -> int:
    """The option that is likeliest as the whole reply; the model is not told of the others."""
    prompt = cast.prompt("answerer", text)
    prefix = _prefix(cast, footage, prompt, segment)
    replies = [cast.chat.encode(f"{cast.chat.plain(option).rstrip('.')}.") for option in options]
    chances = [footage.log_likelihood(prefix, prompt, reply) for reply in replies]
    return max(range(len(options)), key=chances.__getitem__)


def _prefix(cast: Cast, footage: Footage, prompt: ChatPrompt, segment: Span) -> Prefix:
    view = footage.view(cast.settings("answerer"), segment)
    return cast.prefixes("answerer", footage, prompt, [view])[0]


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
