"""Training data as JSON lines: one thing asked of one video, and what is right. Times in seconds.

    planner    {"video": "yard.mp4", "question": "Who opens the gate?", "plan": "ground-answer",
                "query": "a person opens the gate"}
    grounder   {"video": "yard.mp4", "query": "a person opens the gate", "spans": [[3.5, 6.0]]}
    verifier   {"video": "yard.mp4", "query": "a person opens the gate", "candidate": [3, 7], "label": "Yes"}
    answerer   {"video": "yard.mp4", "question": "Who opens the gate?", "answer": "a guard",
                "options": ["a guard", "nobody"], "segment": [0, 32]}
    any other  {"video": "yard.mp4", "question": "…", "answer": "…"}

`video` is a path, relative to the file's folder. `plan` is ground-answer, ground or answer; its query is
the question where none is given. `options`, `segment` (the stretch that is shown; the whole video without
it) and `duration` (against which times are checked) may be left out. Other entries are not read, so that
one file may serve several roles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vm.errors import TrainingDataError
from vm.moments import Span
from vm.questions import MAX_OPTIONS
from vm.result import ROUTES, Route
from vm.roles.planner import fold_query
from vm.text_file import is_unicode

_MAX_LINE_BYTES = 2**20
_MOST_SECONDS = 1e9
_TOLD_ROWS = 20
BadRows = Literal["skip", "fail"]


@dataclass(frozen=True)
class Row:
    """One line. `text` is the question or query; which other fields are set depends on the role."""

    line: int
    video: Path
    text: str
    plan: Route | None = None
    query: str | None = None
    spans: tuple[Span, ...] = ()
    candidate: Span | None = None
    label: bool | None = None
    answer: str | None = None
    options: tuple[str, ...] = ()
    segment: Span | None = None


@dataclass(frozen=True)
class BadRow:
    """A line that cannot be used, and why."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


def read_rows(path: Path, role: str) -> tuple[list[Row], list[BadRow]]:
    """The rows of a file for `role`, and its bad ones. Empty lines are skipped.

    Raises:
        TrainingDataError: the file cannot be read.
    """
    good: list[Row] = []
    bad: list[BadRow] = []
    for number, line in _lines(path):
        try:
            good.append(_row(number, line, role, path.parent))
        except (ValueError, RecursionError) as problem:
            bad.append(BadRow(number, str(problem)))
    return good, bad


def usable_rows(path: Path, role: str, bad_rows: BadRows, report: Callable[[str], None]) -> list[Row]:
    """The good rows, the bad ones reported or fatal.

    Raises:
        TrainingDataError: there are bad rows and they are not to be skipped, or there are no good ones.
    """
    rows, bad = read_rows(path, role)
    told = [str(row) for row in bad[:_TOLD_ROWS]]
    if len(bad) > _TOLD_ROWS:
        told.append(f"and {len(bad) - _TOLD_ROWS} more")
    if bad and bad_rows == "fail":
        raise TrainingDataError(f"{path}: mend these, or skip them with --bad-rows skip: {'; '.join(told)}")
    for line in told:
        report(f"{path}: skipped {line}")
    if not rows:
        raise TrainingDataError(f"{path} has no rows for the {role}")
    return rows


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not path.is_file():
        raise TrainingDataError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as problem:
        raise TrainingDataError(f"{path}: cannot be read: {problem.strerror}") from problem


def _row(number: int, line: bytes, role: str, folder: Path) -> Row:
    if len(line) > _MAX_LINE_BYTES:
        raise ValueError(f"longer than {_MAX_LINE_BYTES} bytes")
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("must be an object")
    video = folder / _text(content, "video")
    if not video.is_file():
        raise ValueError(f"there is no video {video}")
    duration = _duration(content)
    parts = _PARTS.get(role, _answer_parts)(content, duration)
    return Row(number, video, **parts)


def _planner_parts(content: Mapping[str, Any], duration: float | None) -> dict[str, Any]:
    plan = content.get("plan")
    if plan not in ROUTES:
        raise ValueError(f"plan must be {', '.join(ROUTES[:-1])} or {ROUTES[-1]}, not {plan!r}")
    question = _text(content, "question")
    query = _text(content, "query") if "query" in content else question
    if not fold_query(query):
        raise ValueError("query is empty")
    return {"text": question, "plan": plan, "query": query}


def _grounder_parts(content: Mapping[str, Any], duration: float | None) -> dict[str, Any]:
    given = content.get("spans")
    if not isinstance(given, list) or not given:
        raise ValueError("spans must be a list of [start, end]")
    spans = tuple(_span(span, "spans", duration) for span in given)
    segment = _segment(content, duration)
    if segment and any(s.end < segment.start or s.start > segment.end for s in spans):
        raise ValueError("a span lies outside the segment")
    return {"text": _asked(content, "query", "question"), "spans": spans, "segment": segment}


def _verifier_parts(content: Mapping[str, Any], duration: float | None) -> dict[str, Any]:
    label = content.get("label")
    if label not in ("Yes", "No"):
        raise ValueError(f'label must be "Yes" or "No", not {label!r}')
    candidate = _span(content.get("candidate"), "candidate", duration)
    return {"text": _asked(content, "question", "query"), "candidate": candidate, "label": label == "Yes"}


def _answerer_parts(content: Mapping[str, Any], duration: float | None) -> dict[str, Any]:
    parts = _answer_parts(content, duration)
    options = content.get("options", [])
    if not isinstance(options, list) or not all(isinstance(o, str) and is_unicode(o) for o in options):
        raise ValueError("options must be a list of texts")
    if options and (not 2 <= len(options) <= MAX_OPTIONS or not all(o.strip() for o in options)):
        raise ValueError(f"there must be between 2 and {MAX_OPTIONS} options, none of them empty")
    if options and parts["answer"] not in options:
        raise ValueError("answer must be one of the options")
    return {**parts, "options": tuple(options)}


def _answer_parts(content: Mapping[str, Any], duration: float | None) -> dict[str, Any]:
    segment = _segment(content, duration)
    return {"text": _text(content, "question"), "answer": _text(content, "answer"), "segment": segment}


_PARTS = {
    "planner": _planner_parts,
    "grounder": _grounder_parts,
    "verifier": _verifier_parts,
    "answerer": _answerer_parts,
}


def _asked(content: Mapping[str, Any], *keys: str) -> str:
    """The first of the texts that is there, with something in it once it is folded."""
    found = _text(content, next((key for key in keys if key in content), keys[0]))
    if not fold_query(found):
        raise ValueError(f"{keys[0]} is empty")
    return found


def _text(content: Mapping[str, Any], key: str) -> str:
    found = content.get(key)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{key} is missing" if key not in content else f"{key} must be text")
    if not is_unicode(found):
        raise ValueError(f"{key} is not valid Unicode")
    return found


def _duration(content: Mapping[str, Any]) -> float | None:
    found = content.get("duration")
    if found is None:
        return None
    if not _is_number(found) or not found > 0:
        raise ValueError("duration must be a number of seconds")
    return float(found)


def _segment(content: Mapping[str, Any], duration: float | None) -> Span | None:
    if content.get("segment") is None:
        return None
    segment = _span(content["segment"], "segment", duration)
    if not segment.length:
        raise ValueError("segment is empty")
    return segment


def _span(given: Any, key: str, duration: float | None) -> Span:
    if not isinstance(given, Sequence) or len(given) != 2 or not all(map(_is_number, given)):
        raise ValueError(f"{key} must hold [start, end] in seconds, not {given!r}")
    try:
        span = Span(*map(float, given))
    except ValueError:
        raise ValueError(f"{key}: {given[0]} to {given[1]} is no stretch of time") from None
    if duration is not None and span.start > duration:
        raise ValueError(f"{key}: {given[0]} is after the video's end at {duration:g} s")
    return span


def _is_number(value: Any) -> bool:
    """Of a size that is seconds; JSON knows numbers that no float holds."""
    return type(value) in (int, float) and -_MOST_SECONDS < value < _MOST_SECONDS
