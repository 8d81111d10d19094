"""A result as text for people: what was asked and answered, and a timeline per moment.

Questions, answers, paths and plans come from strangers and models. Their text is printed as text: no
markup of ours is read in it, and no control character of it reaches the terminal.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from vm.moments import Moment, Span
from vm.result import Answer, Plan, Result, VideoFacts

SHOWN_MOMENTS = 5
MAX_BAR_WIDTH = 60  # characters
MIN_BAR_WIDTH = 8  # characters

_INDENT = "   "
# Control characters, marks that reorder or hide what stands beside them, halves of characters.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # many scripts cannot be written without


def print_result(result: Result, console: Console) -> None:
    """Question, answer and the best moments, fitted to the console's width, colours and characters."""
    _print_facts(_outcome(result), console)
    for moment in result.moments[:SHOWN_MOMENTS]:
        console.print(_heading(moment))
        console.print(_timeline(moment.span, result.video.duration, console))
    hidden = len(result.moments) - SHOWN_MOMENTS
    if hidden > 0:
        console.print(Text(f"{_INDENT}and {hidden} more (--json has them all)", style="dim"))
    for warning in result.warnings:
        console.print(Text(f"warning: {plain(warning)}", style="yellow"))


def print_video(video: VideoFacts, console: Console) -> None:
    """What was learnt of a file, one fact per line."""
    rotated = f", turned by {video.rotation} degrees" if video.rotation else ""
    facts = [
        ("file", video.path),
        ("duration", f"{clock(video.duration)} ({video.duration:.3f} s)"),
        ("frames", f"{video.frame_count} at {video.frame_rate:.3f} per second"),
        ("size", f"{video.width} x {video.height} pixels{rotated}"),
        ("codec", video.codec),
        ("starts at", f"{video.start_time:.3f} s of the file's own clock"),
    ]
    _print_facts(facts, console)


def plain(text: str) -> str:
    """Text of unknown origin on one line, with nothing in it that a terminal would obey."""
    return "".join(" " if c.isspace() else c if _printable(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _printable(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _UNPRINTABLE


def clock(seconds: float) -> str:
    """Seconds as m:ss.t, from an hour on as h:mm:ss.t."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def describe(span: Span) -> str:
    """A span as two clock times."""
    return f"{clock(span.start)} - {clock(span.end)}"


def describe_scores(moment: Moment) -> str:
    """What speaks for a moment, with as much as is known."""
    candidate = moment.candidate
    if candidate.verifier_score is not None:
        scores = f"confidence {candidate.confidence:.2f}, verifier {candidate.verifier_score:.2f}"
    else:
        scores = f"confidence {candidate.confidence:.2f}, not verified"
    return f"{scores}, not grounded: stands in" if candidate.fallback else scores


def _outcome(result: Result) -> list[tuple[str, str]]:
    lines = [("question", result.question)]
    if result.answer:
        lines += [("answer", _answer(result.answer)), ("seen in", describe(result.answer.span))]
    lines.append(("plan", _plan(result.plan)))
    if result.query is not None and result.query != result.question:
        lines.append(("looked for", result.query))
    return lines


def _answer(answer: Answer) -> str:
    return f"({answer.option}) {answer.text}" if answer.option else answer.text


def _plan(plan: Plan) -> str:
    steps = ", ".join(step.role for step in plan.steps)
    return f"{steps} (the default: the planner's own could not be used)" if plan.fallback else steps


def _print_facts(facts: Sequence[tuple[str, str]], console: Console) -> None:
    """Names in one column, values wrapped in another; a table would pad every line with spaces."""
    margin = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        label = Text(name.ljust(margin), style="bold")
        for line in Text(plain(value)).wrap(console, max(1, console.width - margin), overflow="fold"):
            line.rstrip()
            console.print(label + line)
            label = Text(" " * margin)


def _heading(moment: Moment) -> Text:
    heading = Text(f"{moment.rank:>2} ")
    heading.append(describe(moment.span), style="bold")
    return heading.append(f"  {describe_scores(moment)}")


def _timeline(span: Span, duration: float, console: Console) -> Text:
    """The whole video as a line, the span drawn thick: at least one character, however short it is."""
    thin, thick = ("-", "#") if console.options.ascii_only else ("─", "━")
    ends = (f"{_INDENT}{clock(0)} ", f" {clock(duration)}")
    width = max(MIN_BAR_WIDTH, min(MAX_BAR_WIDTH, console.width - sum(map(len, ends))))
    first = min(math.floor(span.start / duration * width), width - 1)
    last = max(first + 1, min(math.ceil(span.end / duration * width), width))
    line = Text(ends[0]).append(thin * first, style="dim").append(thick * (last - first), style="bold green")
    return line.append(thin * (width - last), style="dim").append(ends[1])
