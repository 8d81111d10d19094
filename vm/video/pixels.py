"""A decoded frame → upright RGB of the size asked for."""

from __future__ import annotations

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor
from torch.nn.functional import interpolate


def upright_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Tensor:
    """uint8 (3, height, width) as shown, in full size: RGB, after the rotation that the file asks for."""
    # One thread: the frames of several decoders are converted side by side.
    rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turned = np.ascontiguousarray(np.rot90(rgb, quarter_turns(frame)))
    return torch.from_numpy(turned).permute(2, 0, 1)


def quarter_turns(frame: VideoFrame) -> int:
    """How often the frame is to be turned by 90° counterclockwise, 0 to 3."""
    return round(frame.rotation / 90) % 4


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic, with the arithmetic the checkpoints were trained with.

    The same as torchvision's `resize` on uint8 tensors: in float32, clamped and rounded back.

    Args:
        image: uint8 (3, height, width).
        size: (height, width) in pixels.

    Returns:
        uint8 (3, *size).
    """
    scaled = interpolate(image[None].float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return scaled[0].clamp(0, 255).round().to(torch.uint8)
