"""SubRip and WebVTT files → cues in seconds of the video. Knows no video.

Formats: SubRip as players read it (there is no standard), and https://www.w3.org/TR/webvtt1/.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.errors import SubtitleError
from vm.moments import Span
from vm.text_file import read_text

MAX_BYTES = 10 * 2**20  # a day of dense speech is about 2 MB

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s|$)")
_LOOKS_LIKE_TIMING = re.compile(r"\s*\d+:\d.*-->")
_INDEX = re.compile(r"\s*\d+\s*")
# Tags begin with a letter or a time, so that "a < b" in plain speech stays.
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")


@dataclass(frozen=True)
class Cue:
    """One subtitle: when it shows (seconds) and its plain text, lines separated by newlines."""

    span: Span
    text: str


@dataclass
class _Block:
    """A timing line and what follows it; `line` counts from 1."""

    line: int
    timing: re.Match[str]
    body: list[str]


def read_subtitles(path: Path) -> tuple[Cue, ...]:
    """The cues of an SRT or WebVTT file, in order of their start; empty ones are left out.

    Markup, positions, notes and styles are dropped. Cues may overlap. Hours, indices and the
    fraction of a second may be missing, and its separator may be a dot or a comma.

    Raises:
        SubtitleError: not readable as text, a broken timing line, an end before its start, no cues.
    """
    text = read_text(path, MAX_BYTES, SubtitleError)
    blocks = _blocks(text.split("\n"), path, ends_at_blank=text.lstrip().startswith("WEBVTT"))
    cues = [cue for block in blocks if (cue := _cue(block, path)).text]
    if not cues:
        raise SubtitleError(f"{path}: holds no subtitles; an SRT or WebVTT file is needed")
    return tuple(sorted(cues, key=lambda cue: cue.span.start))


def cues_within(cues: Iterable[Cue], span: Span) -> tuple[Cue, ...]:
    """The cues that lie wholly inside `span`, their times counted from its start.

    Source: `videomind/eval/infer_auto.py`, which keeps a cue if it starts and ends inside.
    """
    inside = (cue for cue in cues if span.start <= cue.span.start and cue.span.end <= span.end)
    return tuple(Cue(cue.span.shifted(-span.start), cue.text) for cue in inside)


def _blocks(lines: Sequence[str], path: Path, ends_at_blank: bool) -> Iterator[_Block]:
    """What belongs together. WebVTT ends a cue at a blank line, SubRip only at the next timing line."""
    block: _Block | None = None
    for number, line in enumerate(lines, start=1):
        if timing := _timing(line, number, path):
            if block:
                yield _without_index(block)
            block = _Block(number, timing, [])
        elif block and ends_at_blank and not line:
            yield block
            block = None
        elif block:
            block.body.append(line)
    if block:
        yield block


def _timing(line: str, number: int, path: Path) -> re.Match[str] | None:
    match = _TIMING.match(line)
    if match is None and _LOOKS_LIKE_TIMING.match(line):
        raise SubtitleError(f"{path}, line {number}: not a time range: {line.strip()[:80]!r}")
    return match


def _without_index(block: _Block) -> _Block:
    """The number just above a timing line counts the next cue, and is not spoken in this one."""
    if block.body and _INDEX.fullmatch(block.body[-1]):
        block.body.pop()
    return block


def _cue(block: _Block, path: Path) -> Cue:
    fields = block.timing.groups()
    start, end = _seconds(*fields[:4]), _seconds(*fields[4:])
    if end < start:
        raise SubtitleError(f"{path}, line {block.line}: the subtitle ends before it starts")
    return Cue(Span(start, end), _plain("\n".join(block.body)))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return whole + int((fraction or "0").ljust(3, "0")) / 1000


def _plain(text: str) -> str:
    """Text without markup and control characters, one space between words, no empty lines."""
    spoken = html.unescape(_MARKUP.sub("", text))
    kept = "".join(c for c in spoken if c.isspace() or unicodedata.category(c) != "Cc")
    lines = (" ".join(line.split()) for line in kept.split("\n"))
    return "\n".join(line for line in lines if line)
