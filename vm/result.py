"""What an answered question is: frozen dataclasses and their documented JSON (`result.schema.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vm.moments import Candidate, Moment, Span

Route = Literal["ground-answer", "ground", "answer"]
Mode = Literal["auto", Route]
Role = Literal["planner", "grounder", "verifier", "answerer"]
ROUTES: tuple[Route, ...] = get_args(Route)


@dataclass(frozen=True)
class Step:
    """One role of a plan, and the text it is to work on where the planner gave one."""

    role: Role
    query: str | None = None


@dataclass(frozen=True)
class Plan:
    """The ordered roles. `text` is what the planner wrote, None where it was not asked.

    `fallback` says that the planner's text could not be used, and the default plan (ground and
    answer the original question) stands in.
    """

    steps: tuple[Step, ...]
    text: str | None = None
    fallback: bool = False

    @property
    def grounds(self) -> bool:
        return any(step.role == "grounder" for step in self.steps)

    @property
    def answers(self) -> bool:
        return any(step.role == "answerer" for step in self.steps)

    @property
    def query(self) -> str | None:
        return next((step.query for step in self.steps if step.role == "grounder"), None)


@dataclass(frozen=True)
class Answer:
    """The answer's text, the letter of the chosen option if options were given, and its segment (seconds)."""

    text: str
    option: str | None
    span: Span


@dataclass(frozen=True)
class Window:
    """A stretch (seconds) that the grounder searched in one pass, and in how many frames.

    `confidence` is that of the best span it proposed there, None where it proposed none.
    """

    span: Span
    frames: int
    confidence: float | None


@dataclass(frozen=True)
class VideoFacts:
    """What was learnt of the file: seconds, frames per second, pixels as shown (after rotation)."""

    path: str
    duration: float
    frame_rate: float
    frame_count: int
    width: int
    height: int
    codec: str
    rotation: int
    start_time: float


@dataclass(frozen=True)
class Result:
    """One question put to one video, and everything found (paper section 3).

    `candidates` are in the grounder's order, `moments` best first, `windows` in the video's order and none
    where nothing was to be localised. `seconds` holds the time spent
    per stage (decode, vision, planner, grounder, verifier, answerer, total).
    """

    question: str
    mode: Mode
    options: tuple[str, ...]
    plan: Plan
    query: str | None
    candidates: tuple[Candidate, ...]
    moments: tuple[Moment, ...]
    answer: Answer | None
    video: VideoFacts
    fingerprint: str
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    windows: tuple[Window, ...] = ()

    @property
    def best(self) -> Moment | None:
        return self.moments[0] if self.moments else None

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON names, ready for `json.dumps`."""
        return {
            "question": self.question,
            "mode": self.mode,
            "options": list(self.options),
            "plan": {
                "text": self.plan.text,
                "fallback": self.plan.fallback,
                "steps": [{"role": step.role, "query": step.query} for step in self.plan.steps],
            },
            "query": self.query,
            "windows": [_window(window) for window in self.windows],
            "candidates": [_candidate(c) for c in self.candidates],
            "moments": [{"rank": m.rank, **_candidate(m.candidate)} for m in self.moments],
            "answer": self.answer
            and {
                "text": self.answer.text,
                "option": self.answer.option,
                "span": {"start": _time(self.answer.span.start), "end": _time(self.answer.span.end)},
            },
            "video": vars(self.video),
            "checkpoint": {"fingerprint": self.fingerprint},
            "warnings": list(self.warnings),
            "seconds": {stage: round(spent, 4) for stage, spent in self.seconds.items()},
        }

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, indent=indent)


def _window(window: Window) -> dict[str, Any]:
    return {
        "start": _time(window.span.start),
        "end": _time(window.span.end),
        "frames": window.frames,
        "confidence": window.confidence,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "start": _time(candidate.span.start),
        "end": _time(candidate.span.end),
        "confidence": candidate.confidence,
        "fallback": candidate.fallback,
        "p_yes": candidate.p_yes,
        "p_no": candidate.p_no,
        "verifier_score": candidate.verifier_score,
    }


def _time(seconds: float) -> float:
    """To a tenth of a millisecond: finer than any frame, coarser than the noise of 32-bit arithmetic."""
    return round(seconds, 4)
