"""Frozen settings: what each role may look at and write, and how the chain works.

The defaults are the budgets VideoMind was published with (paper section 4, `videomind/eval/infer_auto.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from vm.errors import QuestionError

PATCH_SIZE = 14  # pixels, a side of one vision patch
MERGE_SIZE = 2  # patches, a side of what becomes one token
TEMPORAL_PATCH_SIZE = 2  # frames in one vision patch
PIXEL_FACTOR = PATCH_SIZE * MERGE_SIZE  # frame sides are multiples of this
TOKEN_PIXELS = PIXEL_FACTOR**2


@dataclass(frozen=True)
class RoleSettings:
    """What one role is shown and how much it may write.

    `frame_rate` in frames per second, `min_pixels` and `max_pixels` per frame, `max_new_tokens` in tokens.
    `prompt` is a template with one `{}` for the question or query; the answerer needs none. `min_seconds` is
    the length a moment is grown to before it is shown; it is the answerer's, and no other role's is. So is
    `choose_by`: by "letter" the options are listed and the likeliest letter wins, as published; by "words"
    they are not, and the likeliest reply wins. `confidence_weight` is the verifier's: how much the grounder's
    confidence counts beside its own verdict when moments are ranked, not at all as published.
    """

    frame_rate: float
    max_frames: int
    min_pixels: int
    max_pixels: int
    max_new_tokens: int = 256
    prompt: str = "{}"
    min_seconds: float = 0.0
    choose_by: Literal["letter", "words"] = "letter"
    confidence_weight: float = 0.0

    def __post_init__(self) -> None:
        counts_make_sense = self.max_frames >= TEMPORAL_PATCH_SIZE and self.max_new_tokens >= 1
        if not (0 < self.frame_rate < math.inf and counts_make_sense):
            raise ValueError("frame_rate, max_frames (at least 2) and max_new_tokens must be positive")
        if not TOKEN_PIXELS <= self.min_pixels <= self.max_pixels:
            raise ValueError(f"pixel limits must satisfy {TOKEN_PIXELS} ≤ min_pixels ≤ max_pixels")
        if not 0 <= self.min_seconds < math.inf:
            raise ValueError(f"min_seconds is {self.min_seconds}: it must be 0 or more seconds")
        if not 0 <= self.confidence_weight < math.inf:
            raise ValueError(f"confidence_weight is {self.confidence_weight}: it must be 0 or more")
        if self.choose_by not in ("letter", "words"):
            raise ValueError(f"choose_by is {self.choose_by!r}: it must be letter or words")


def _published(
    frame_rate: float, max_frames: int, min_tokens: int, max_tokens: int, min_seconds: float = 0.0
) -> RoleSettings:
    pixels = (min_tokens * TOKEN_PIXELS, max_tokens * TOKEN_PIXELS)
    return RoleSettings(frame_rate, max_frames, *pixels, min_seconds=min_seconds)


PUBLISHED_ROLES: Mapping[str, RoleSettings] = MappingProxyType(
    {
        "planner": _published(frame_rate=1.0, max_frames=100, min_tokens=36, max_tokens=64),
        "grounder": _published(frame_rate=1.0, max_frames=150, min_tokens=36, max_tokens=64),
        "verifier": _published(frame_rate=2.0, max_frames=64, min_tokens=36, max_tokens=64),
        "answerer": _published(
            frame_rate=2.0, max_frames=32, min_tokens=128, max_tokens=256, min_seconds=32.0
        ),
    }
)


@dataclass(frozen=True)
class ChainSettings:
    """How a question is worked on. Times in seconds.

    `window` None grounds any video in one pass, as published; else videos longer than `long_video`
    are grounded window by window. `min_answer_seconds` is the least the answerer is shown; None leaves it to
    the checkpoint. Without `verify` the grounder's order stands. `reuse_bytes` bounds what an open video
    keeps for later questions.

    Raises:
        QuestionError: a window under twice its overlap, which would take many passes to get ahead, a
            length that is negative or no number, no candidate.
    """

    candidates: int = 5
    nms_iou: float = 0.75
    min_verified_seconds: float = 2.0
    widen_fraction: float = 0.5
    min_answer_seconds: float | None = None
    long_video: float = 600.0
    window: float | None = 150.0
    window_overlap: float = 25.0
    verify: bool = True
    reuse_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        shortest = max(1.0, 2 * self.window_overlap)
        if self.window is not None and not 0 <= self.window_overlap < shortest <= self.window:
            raise QuestionError(
                f"the window is {self.window} s: give at least {shortest:g} s (twice its overlap), or none"
            )
        if self.min_answer_seconds is not None and not 0 <= self.min_answer_seconds < math.inf:
            raise QuestionError(f"min_answer_seconds is {self.min_answer_seconds}: give 0 or more seconds")
        if self.candidates < 1:
            raise QuestionError("at least one candidate must be kept")
