"""What travels between queue, service and store: a request, a claim on it, what became of it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Literal, get_args

from vm.config import ChainSettings
from vm.errors import QuestionError
from vm.result import Mode, Result
from vm.text_file import is_unicode

State = Literal["queued", "running", "succeeded", "failed"]
VideoState = Literal["known", "readable", "unreadable"]

ABANDONED_AFTER = timedelta(hours=1)
"""No task lives longer than this, so what has been running for longer belongs to a dead process."""

STATES: tuple[State, ...] = get_args(State)
VIDEO_STATES: tuple[VideoState, ...] = get_args(VideoState)


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

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise QuestionError("the question is empty: say what to look for")
        if self.mode not in get_args(Mode):
            raise QuestionError(f"no such mode: {self.mode!a}. Choose one of {', '.join(get_args(Mode))}")
        for text in (self.question, *self.options):
            if "\0" in text or not is_unicode(text):
                raise QuestionError(f"not valid text: {text!a}. Write it in UTF-8")

    def key(self, sha256: str, fingerprint: str) -> str:
        """What makes two submissions one analysis: video content, checkpoint, and all that is asked."""
        identity = {"video": sha256, "fingerprint": fingerprint, **asdict(self)}
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Claim:
    """The right to work on one analysis. `attempt` proves it: the next claim has a higher one."""

    analysis_id: int
    attempt: int
    video_id: int
    uri: str
    request: Request
    fingerprint: str


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
        return {"question": self.question, "video": {"uri": self.uri}, "state": self.state, "error": error}
