"""What travels between queue, service and store: a submission, a request, a claim, what became of it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from vm.config import ChainSettings
from vm.errors import QuestionError
from vm.questions import check_question
from vm.result import Mode, Result
from vm.subtitles import Cue
from vm.text_file import is_unicode
from worker.masking import masked

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
VideoState = Literal["known", "readable", "unreadable", "quarantined"]
Origin = Literal["argument", "filename", "container"]
"""What told when a recording began."""
Verdict = Literal["found", "nothing_found", "failed", "not_searched"]

STATES: tuple[State, ...] = get_args(State)
VIDEO_STATES: tuple[VideoState, ...] = get_args(VideoState)
ORIGINS: tuple[Origin, ...] = get_args(Origin)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

NORMAL = 5
"""The priority of live work. Priorities go from 0 to 9, the higher first: there is room on both sides."""
_LONGEST_NAME = 200  # characters, of a collection or source


@dataclass(frozen=True)
class AskSettings:
    """How a question is asked, as far as it changes the result.

    `window` is the stretch grounded in one pass on a long video (seconds; None: all in one pass),
    `min_answer_seconds` the least the answerer is shown (None: what the checkpoint says).

    Raises:
        QuestionError: a time that is negative or no number.
    """

    window: float | None = ChainSettings.window
    min_answer_seconds: float | None = ChainSettings.min_answer_seconds

    def __post_init__(self) -> None:
        if not (0 < (1 if self.window is None else self.window) < math.inf):
            raise QuestionError(f"window is {self.window}: give a number of seconds, or none")
        if not (0 <= (self.min_answer_seconds or 0) < math.inf):
            raise QuestionError(f"min_answer_seconds is {self.min_answer_seconds}: give a number of seconds")


@dataclass(frozen=True)
class Request:
    """One question, to be put to one video.

    Raises:
        QuestionError: no question, an unknown mode, or a text that is not valid Unicode.
    """

    question: str
    options: tuple[str, ...] = ()
    mode: Mode = "auto"
    settings: AskSettings = field(default_factory=AskSettings)
    subtitles: tuple[Cue, ...] = ()

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise QuestionError("the question is empty: say what to look for")
        if self.mode not in get_args(Mode):
            raise QuestionError(f"no such mode: {self.mode!a}. Choose one of {', '.join(get_args(Mode))}")
        for text in (self.question, *self.options, *(cue.text for cue in self.subtitles)):
            if "\0" in text or not is_unicode(text):
                raise QuestionError(f"not valid text: {text!a}. Write it in UTF-8")

    @classmethod
    def given(
        cls,
        question: str,
        options: tuple[str, ...] = (),
        mode: Mode = "auto",
        settings: AskSettings = AskSettings(),
        subtitles: tuple[Cue, ...] = (),
    ) -> Request:
        """One that somebody asks for now. What was kept before stays readable.

        Raises:
            QuestionError: also where no model would be asked this.
        """
        check_question(question, options)
        return cls(question, options, mode, settings, subtitles)

    @property
    def asked_key(self) -> str:
        """The same for all generations of the question: nothing of the settings is in it."""
        cues = [{"start": cue.span.start, "end": cue.span.end, "text": cue.text} for cue in self.subtitles]
        asked = {"question": self.question, "options": list(self.options), "mode": self.mode}
        return digest({**asked, "subtitles": cues or None})

    def key(self, sha256: str, fingerprint: str, run: str = "") -> str:
        """What makes two submissions one analysis: video content, checkpoint, and all that is asked.

        Args:
            run: tells a repetition that was asked for from the first time.
        """
        identity = {"video": sha256, "fingerprint": fingerprint, **asdict(self)}
        if not self.subtitles:
            del identity["subtitles"]
        if run:
            identity["run"] = run
        return digest(identity)


def check_names(*names: str | None) -> None:
    """Whether collections and sources can be called so; None is nobody's name.

    Raises:
        QuestionError: blank, or longer than a database keeps.
    """
    for name in names:
        if name is not None and not 0 < len(name.strip()) <= len(name) <= _LONGEST_NAME:
            raise QuestionError(f"name collection and source in 1 to {_LONGEST_NAME} characters")


def digest(value: Any) -> str:
    """The sha256 of what JSON makes of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Submission:
    """One video and what to ask of it, as a producer hands it in.

    Attributes:
        key: the producer's name for it. Submitted twice under one key, it is one submission.
        uri: where the video is: a `file:`, `http(s):` or `s3:` URI.
        collection, source: what the video belongs to, by name. A source belongs to a collection.
        recorded_at: when the recording began, with its zone.
        priority: 0 to 9, the higher first.
        callback_url: is told when the last of the questions has ended.
        force: ask again what has been answered before.
    """

    key: str
    uri: str
    requests: tuple[Request, ...]
    collection: str | None = None
    source: str | None = None
    recorded_at: datetime | None = None
    priority: int = NORMAL
    callback_url: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Lease:
    """The right to work on one row. `fence` proves it: the next to get that right has a higher one."""

    id: int
    fence: int


@dataclass(frozen=True)
class Claim:
    """The right to work on one analysis, and what it asks.

    Attributes:
        recorded_at, duration: of its video, as far as they were known: an instant, and seconds.
        followed: a re-indexing run or a standing question had to do with its end.
    """

    lease: Lease
    attempts: int
    video_id: int
    uri: str
    sha256: str
    recorded_at: datetime | None
    duration: float | None
    followed: bool
    request: Request
    fingerprint: str
    priority: int = NORMAL

    @property
    def analysis_id(self) -> int:
        return self.lease.id


@dataclass(frozen=True)
class Progress:
    """How far an analysis is: the fraction done, 0 to 1, and the seconds that are left if it goes on as it
    has; None where that cannot be told yet."""

    stage: str
    fraction: float
    seconds_left: float | None

    @classmethod
    def after(cls, seconds: float, stage: str, fraction: float) -> Progress:
        """Once it has taken so long."""
        return cls(stage, fraction, seconds / fraction * (1 - fraction) if fraction else None)


@dataclass(frozen=True)
class Intake:
    """The right to fetch and register one submission's video."""

    lease: Lease
    attempts: int
    submission: Submission


@dataclass(frozen=True)
class Accepted:
    """What a producer gets back at once: ids by which the submission and its requests can be looked up."""

    submission_id: int
    request_ids: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of an analysis; `result` is there once the state is succeeded."""

    analysis_id: int
    uri: str
    question: str
    state: State
    error_code: str | None
    error_message: str | None
    result: Result | None

    def to_dict(self) -> dict[str, Any]:
        """The result's documented JSON, or who failed and why."""
        if self.result is not None:
            return self.result.to_dict()
        error = {"code": self.error_code, "message": self.error_message} if self.error_code else None
        video = {"uri": masked(self.uri)}
        return {"question": self.question, "video": video, "state": self.state, "error": error}
