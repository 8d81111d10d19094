"""Which frames a role looks at. Pure arithmetic: knows no file."""

from __future__ import annotations

import torch

from vm.moments import Span

_FEWEST = 4


def sample_indices(
    frame_count: int, video_rate: float, span: Span | None, frame_rate: float, max_frames: int
) -> tuple[int, ...]:
    """Evenly spaced frames between the first and the last frame of a span, both included.

    The published rule (`videomind/dataset/utils.py`, on top of Qwen-VL's `smart_nframes`): at
    `frame_rate`, at least 4, an even number. Where the video has fewer frames than that, frames
    repeat, and of a span beyond the end the last frame is taken.

    Args:
        frame_count: frames in the video, at least 1.
        video_rate: the video's average frames per second.
        span: seconds; None is the whole video.
        frame_rate: frames per second to look at, above 0.
        max_frames: upper bound on how many, at least 2.

    Returns:
        Indices in presentation order, ascending, from 0.

    Raises:
        ValueError: a rate or bound that makes no sense.
    """
    if not frame_rate > 0 or max_frames < 2:
        raise ValueError(f"cannot sample at {frame_rate} frames per second, at most {max_frames}")
    start, end = (span.start, span.end) if span else (0.0, frame_count / video_rate)
    first = min(max(0, round(start * video_rate)), frame_count - 1)
    last = min(max(0, round(end * video_rate)), frame_count - 1)
    available = min(max(_FEWEST, round((end - start) * video_rate)), frame_count)
    count = min(max(available / video_rate * frame_rate, _FEWEST), max_frames // 2 * 2)
    spaced = torch.linspace(first, last, round(count / 2) * 2).round()
    return tuple(int(index) for index in spaced)
