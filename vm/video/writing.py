"""Frames → a video file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_OPTIONS = {
    "mpeg4": {"qscale": "4"},
    "libx264": {"preset": "ultrafast", "crf": "24"},
    "libx265": {"preset": "ultrafast", "crf": "24", "x265-params": "log-level=none"},
}


def write_video(
    path: Path, frames: Iterable[np.ndarray], width: int, height: int, frame_rate: int, codec: str
) -> None:
    """Encode frames, quickly rather than small.

    Args:
        path: its suffix chooses the container.
        frames: uint8 (height, width, 3) each, RGB; sides even.
        frame_rate: frames per second.
        codec: libx264, libx265 or mpeg4.

    Raises:
        OSError: the file cannot be written.
    """
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=frame_rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, frame_rate)
        stream.options = dict(_OPTIONS[codec])
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
