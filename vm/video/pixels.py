"""A decoded frame → upright RGB."""

from __future__ import annotations

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor


def upright_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Tensor:
    """uint8 (height, width, 3) as shown, in full size: RGB, after the rotation that the file asks for."""
    # One thread: the frames of several decoders are converted side by side.
    rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return torch.from_numpy(np.ascontiguousarray(np.rot90(rgb, quarter_turns(frame))))


def quarter_turns(frame: VideoFrame) -> int:
    """How often the frame is to be turned by 90° counterclockwise, 0 to 3."""
    return round(frame.rotation / 90) % 4
