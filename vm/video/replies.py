"""What a decoder says, believed only as far as it can be true: it has read a file nobody vouches for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vm.errors import (
    DecoderCrashed,
    DecodeTimeout,
    ForbiddenMedia,
    FrameTooLarge,
    InvalidSource,
    NoFrames,
    NoVideoStream,
    UnsupportedMedia,
    VideoError,
)
from vm.result import VideoFacts
from vm.video.limits import MediaLimits
from vm.video.recording import is_plausible

_ERRORS: dict[Any, type[VideoError]] = {
    kind.code: kind
    for kind in (
        InvalidSource,
        UnsupportedMedia,
        ForbiddenMedia,
        NoVideoStream,
        NoFrames,
        FrameTooLarge,
        DecodeTimeout,
        DecoderCrashed,
    )
}
_MOST_FRAMES = 10**9
_LONGEST_TEXT = 4096  # characters, besides the path
_MOST_WARNINGS = 1000


@dataclass(frozen=True)
class Opening:
    """What is told of a file when it is opened; see `VideoReader`."""

    info: VideoFacts
    recorded_at: datetime | None


def checked_opening(reply: dict[str, Any], path: str, limits: MediaLimits) -> Opening:
    """The facts about the file at `path`.

    Raises:
        ValueError: no honest reply looks like this. So do all functions here.
    """
    told = reply.get("info")
    if not isinstance(told, dict):
        raise ValueError("no facts about the video")
    longest_side = max(limits.max_width, limits.max_height)
    info = VideoFacts(
        path=path,
        duration=_number(told.get("duration"), 0, limits.max_duration),
        frame_rate=_number(told.get("frame_rate"), sys.float_info.min),
        frame_count=_whole(told.get("frame_count"), 1, _MOST_FRAMES),
        width=_whole(told.get("width"), 1, longest_side),
        height=_whole(told.get("height"), 1, longest_side),
        codec=_text(told.get("codec"), ""),
        rotation=_whole(told.get("rotation"), 0, 270),
        start_time=_number(told.get("start_time"), -sys.float_info.max),
    )
    return Opening(info, _began(reply.get("recorded_at")))


def checked_times(reply: dict[str, Any], count: int) -> tuple[float, ...]:
    """Seconds, as many as were asked for."""
    times = reply.get("times")
    if not isinstance(times, list) or len(times) != count:
        raise ValueError("not a time for each frame")
    return tuple(_number(time, -sys.float_info.max) for time in times)


def checked_warnings(reply: dict[str, Any], path: str) -> list[str]:
    """Sentences for the user."""
    warnings = reply.get("warnings")
    if not isinstance(warnings, list) or len(warnings) > _MOST_WARNINGS:
        raise ValueError("no list of warnings")
    return [_text(warning, path) for warning in warnings]


def told_error(reply: dict[str, Any], path: str) -> VideoError:
    """What a decoder says is wrong with the file."""
    kind = reply["error"] if isinstance(reply["error"], str) else ""
    return _ERRORS.get(kind, UnsupportedMedia)(_text(reply.get("message"), path))


def _began(text: Any) -> datetime | None:
    if text is None:
        return None
    when = datetime.fromisoformat(_text(text, ""))
    if when.tzinfo is None or not is_plausible(when):
        raise ValueError("no recording began then")
    return when


def _number(value: Any, least: float, most: float = sys.float_info.max) -> float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"not a number from {least} to {most}")
    return float(value)


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"not a whole number from {least} to {most}")
    return value


def _text(value: Any, path: str) -> str:
    """Text without control characters, which terminals would obey, but for those in the file's own path."""
    if not isinstance(value, str) or len(value) > len(path) + _LONGEST_TEXT:
        raise ValueError("not a text of bearable length")
    return value if value.replace(path, "").isprintable() else ascii(value)
