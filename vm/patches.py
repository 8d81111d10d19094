"""Frames to normalised vision patches. Knows no model and no file.

The layout is Qwen2-VL's: two frames make one temporal patch, patches of 14×14 pixels are ordered so
that each 2×2 group that will be merged into a token stands together
(transformers `Qwen2VLImageProcessor`, rewritten on tensors and in one pass).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vm.config import MERGE_SIZE, PATCH_SIZE, PIXEL_FACTOR, TEMPORAL_PATCH_SIZE
from vm.errors import UnsupportedMedia

_MAX_ASPECT_RATIO = 200
# (byte / 255 − mean) / deviation, with CLIP's figures, as one multiplication and one addition.
_CLIP_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
_CLIP_DEVIATION = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
_SCALE = 1 / (255 * _CLIP_DEVIATION)
_SHIFT = -_CLIP_MEAN / _CLIP_DEVIATION

PATCH_VALUES = 3 * TEMPORAL_PATCH_SIZE * PATCH_SIZE * PATCH_SIZE


def fit_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The nearest (height, width) in pixels with sides a multiple of 28 and an area within the limits.

    The rule is qwen-vl-utils' `smart_resize`: the aspect ratio is kept as well as multiples allow.

    Raises:
        UnsupportedMedia: one side is more than 200 times the other.
    """
    if max(height, width) > _MAX_ASPECT_RATIO * min(height, width):
        raise UnsupportedMedia(f"frames of {width} by {height} pixels are too narrow to be analysed")
    rows, columns = (max(1, round(side / PIXEL_FACTOR)) for side in (height, width))
    area = rows * columns * PIXEL_FACTOR**2
    if area < min_pixels:
        scale = math.sqrt(min_pixels / (height * width))
        rows, columns = (math.ceil(side * scale / PIXEL_FACTOR) for side in (height, width))
    elif area > max_pixels:
        scale = math.sqrt((height * width) / max_pixels)
        rows, columns = (max(1, math.floor(side / scale / PIXEL_FACTOR)) for side in (height, width))
    return rows * PIXEL_FACTOR, columns * PIXEL_FACTOR


def to_patches(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalise frames and cut them into patches.

    Args:
        frames: uint8 (2·T, 3, height, width), RGB, sides a multiple of 28.

    Returns:
        (T, H·W, 1176) in `dtype` on the frames' device, where H = height / 14 and W = width / 14.
    """
    count, _, height, width = frames.shape
    rows, columns = height // PIXEL_FACTOR, width // PIXEL_FACTOR
    pixels = frames.float().mul_(_SCALE.to(frames.device)).add_(_SHIFT.to(frames.device)).to(dtype)
    blocks = pixels.view(
        count // TEMPORAL_PATCH_SIZE,
        TEMPORAL_PATCH_SIZE,
        3,
        rows,
        MERGE_SIZE,
        PATCH_SIZE,
        columns,
        MERGE_SIZE,
        PATCH_SIZE,
    )
    return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(
        count // TEMPORAL_PATCH_SIZE, rows * columns * MERGE_SIZE**2, PATCH_VALUES
    )
