"""A decoded frame → upright RGB of the size asked for."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from torch import Tensor
from torch.nn.functional import interpolate


def upright_rgb(frame: VideoFrame, reformatter: VideoReformatter) -> Tensor:
    """uint8 (height, width, 3) as shown, in full size: RGB, after the rotation that the file asks for."""
    # One thread: the frames of several decoders are converted side by side.
    rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return torch.from_numpy(np.ascontiguousarray(np.rot90(rgb, quarter_turns(frame))))


def quarter_turns(frame: VideoFrame) -> int:
    """How often the frame is to be turned by 90° counterclockwise, 0 to 3."""
    return round(frame.rotation / 90) % 4


def resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic in float32, clamped and rounded back, as the checkpoints were trained with.

    The same arithmetic as torchvision's `resize` on uint8 tensors, with the rows before the columns
    and only the weights that are not zero: a third of the time, and the same bytes but for ties in
    rounding (about one in 100 000).

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) in pixels.

    Returns:
        uint8 (3, *size).
    """
    height, width, channels = image.shape
    rows = _weights(height, size[0]) @ image.view(height, width * channels).float()
    upright = rows.view(size[0], width, channels).permute(1, 2, 0).reshape(width, channels * size[0])
    columns = _weights(width, size[1]) @ upright
    pixels = columns.view(size[1], channels, size[0]).permute(1, 2, 0)
    return pixels.clamp(0, 255).round().to(torch.uint8).contiguous()


@lru_cache(maxsize=64)
def _weights(source: int, target: int) -> Tensor:
    """float32 (target, source), sparse: what each pixel of a line gives to each pixel of the resized line."""
    unit = torch.eye(source)[None, None]
    dense = interpolate(unit, size=(target, source), mode="bicubic", antialias=True, align_corners=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return dense[0, 0].to_sparse_csr()
