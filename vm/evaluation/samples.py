"""What is asked, what would be right, and what a system said."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from vm.moments import Span
from vm.result import ROUTES, Plan, Route


@dataclass(frozen=True)
class Sample:
    """One question about one video, and the truth as far as it is known.

    Attributes:
        video: path of the file.
        question: what the system is asked.
        duration: seconds; None where only the file tells.
        query: what a perfect planner would have the grounder look for.
        spans: the true moments, seconds; empty where the question has none.
        options: of a multiple-choice question, else empty.
        answer: the right option's text.
        mode: the plan a perfect planner would choose; None where annotations do not say.
        groups: names of further groups the sample is reported under.
        apart: reported under its groups only, not among all.
    """

    video: str
    question: str
    duration: float | None = None
    query: str | None = None
    spans: tuple[Span, ...] = ()
    options: tuple[str, ...] = ()
    answer: str | None = None
    mode: Route | None = None
    groups: tuple[str, ...] = ()
    apart: bool = False

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError("the question is empty")
        if self.options and self.answer not in self.options:
            raise ValueError(f"the answer {self.answer!r} is none of the options")
        if self.mode is not None and self.mode not in ROUTES:
            raise ValueError(f"unknown mode {self.mode!r}: choose {', '.join(ROUTES)}")
        if self.duration is not None and not (_is_number(self.duration) and 0 < self.duration < math.inf):
            raise ValueError(f"the duration is {self.duration!r}: give seconds")

    @property
    def id(self) -> str:
        """A digest of what is asked, not of what would be right: a corrected truth asks nothing anew."""
        return digest([self.video, self.question, self.options])


@dataclass(frozen=True)
class Prediction:
    """What a system said of one sample.

    Attributes:
        key: a digest of everything the prediction depends on.
        sample, video, question: the sample's id, and the sample for those who read the file.
        system: the system's name; `fingerprint`: its checkpoint's, empty where it has none.
        spans: best first, seconds; `confidences` beside them.
        fallback: the grounder localised nothing, and the spans stand in.
        planned: whether a planner was asked.
        route: the plan it chose; None where it wrote none that can be used.
        query: what the grounder was to look for.
        reply: the chosen option's letter, or what the answerer wrote.
        duration: the video's, seconds.
        error: why there is nothing of all this.
    """

    key: str
    sample: str
    video: str
    question: str
    system: str
    fingerprint: str = ""
    spans: tuple[Span, ...] = ()
    confidences: tuple[float, ...] = ()
    fallback: bool = False
    planned: bool = False
    route: Route | None = None
    query: str | None = None
    reply: str | None = None
    duration: float | None = None
    error: str | None = None


def route_of(plan: Plan) -> Route | None:
    """What the planner chose to do; None where its text could not be used."""
    if plan.fallback:
        return None
    return "answer" if not plan.grounds else "ground-answer" if plan.answers else "ground"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def digest(content: Any) -> str:
    """Sixteen hexadecimal digits that tell contents (anything JSON can hold) apart."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
