"""Rows → what is asked and what is to be written, in tokens, packed by what is shown. Opens no video.

Prompts are made as the roles make them, so that what is learnt is what will be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from vm.cast import Cast
from vm.moments import Span
from vm.prompts import ChatPrompt
from vm.roles.answerer import with_options
from vm.roles.planner import fold_query, plan_text
from vm.training.lessons import Example
from vm.training.rows import Row

# As published; the token must not stand first, or the grounder does not look for it.
_GROUNDER_REPLY = "The relevant moment happens in {}."


@dataclass(frozen=True)
class Assignment:
    """All that is asked, in one pass, of one stretch of a video.

    Attributes:
        shown: the verifier's candidate, or the segment shown to any other role; None for the whole video.
        before: token ids up to and with `<|vision_start|>`.
        examples: their spans are in seconds of the video.
    """

    video: Path
    shown: Span | None
    before: tuple[int, ...]
    examples: tuple[Example, ...]


def assign(cast: Cast, role: str, rows: Iterable[Row], most_tokens: int) -> list[Assignment]:
    """Rows that are shown the same stretch of the same video, together.

    Args:
        most_tokens: of all examples of an assignment, the video's apart; one example may have more.
    """
    open_packs: dict[tuple[Path, Span | None], list[Example]] = {}
    done: list[Assignment] = []
    before: tuple[int, ...] = ()
    for row in rows:
        before, example = _example(cast, role, row)
        key = (row.video, row.candidate or row.segment)
        pack = open_packs.setdefault(key, [])
        if pack and sum(map(_tokens, pack)) + _tokens(example) > most_tokens:
            done.append(Assignment(*key, before, tuple(pack)))
            pack.clear()
        pack.append(example)
    return done + [Assignment(*key, before, tuple(pack)) for key, pack in open_packs.items()]


def _tokens(example: Example) -> int:
    return len(example.after) + len(example.reply)


def _example(cast: Cast, role: str, row: Row) -> tuple[tuple[int, ...], Example]:
    """The tokens before the video, and what is behind it."""
    prompt, reply = _asked(cast, role, row)
    spans = tuple((span.start, span.end) for span in row.spans)
    return prompt.before, Example(prompt.after, (*reply, _turn_end(cast, prompt)), spans)


def _asked(cast: Cast, role: str, row: Row) -> tuple[ChatPrompt, Sequence[int]]:
    """The prompt and the reply, without what ends it."""
    encode = cast.chat.encode
    if role == "planner":
        assert row.plan is not None
        plan = plan_text(row.plan, row.query or "")
        return cast.prompt(role, row.text), encode(cast.chat.plain(plan))
    if role == "grounder":
        reply = encode(_GROUNDER_REPLY.format(cast.book.reg))
        return cast.prompt(role, fold_query(row.text)), reply
    if role == "verifier":
        return cast.prompt(role, row.text), (cast.yes if row.label else cast.no, *encode("."))
    if role == "answerer" and row.options:
        letter = ascii_uppercase[row.options.index(row.answer or "")]
        prompt = cast.prompt(role, with_options(row.text, row.options), reply="(")
        return prompt, (cast.chat.token_id(letter), *encode(")"))
    return cast.prompt(role, row.text), encode(cast.chat.plain(row.answer or ""))


def _turn_end(cast: Cast, prompt: ChatPrompt) -> int:
    """What ends the user's message ends the reply, if generation stops there."""
    ends = cast.backbone.eos_ids
    return next((token for token in reversed(prompt.after) if token in ends), min(ends))
