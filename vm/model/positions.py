"""How a prompt's tokens stand: the video's tokens and markers, and every token's rotary position.

Positions are those VideoMind's weights were trained with, of transformers 4.45. Later releases compute
others and fail on the verifier's prompts, so they are computed here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def video_ids(
    token_grid: tuple[int, int, int],
    video_id: int,
    markers: tuple[int, int],
    marked: tuple[int, int] | None = None,
) -> list[int]:
    """The tokens that stand for a video, with the markers around the marked stretch.

    Args:
        token_grid: (T, H, W) in tokens.
        markers: ids of the tokens that mark a stretch's start and end.
        marked: that stretch, in temporal patches.
    """
    frames, rows, columns = token_grid
    ids = [video_id] * (frames * rows * columns)
    if marked is None:
        return ids
    start, end = (place * rows * columns for place in marked)
    return [*ids[:start], markers[0], *ids[start:end], markers[1], *ids[end:]]


def text_positions(first: int, count: int) -> Tensor:
    """int64 (3, count): text counts on alike in time, height and width."""
    return torch.arange(first, first + count).expand(3, -1)


def rotary_positions(
    ids: Sequence[int], token_grid: tuple[int, int, int], vision_start_id: int, video_id: int
) -> Tensor:
    """Positions in time, height and width of a prompt with one video.

    Text counts on from the largest position used so far on any axis. The video's block of T·H·W
    positions is laid over that many consecutive tokens from the first video token on, whatever
    stands among them; what is left is text. Where no video token stands directly behind
    `vision_start_id` the whole prompt is text.

    Args:
        ids: the prompt's tokens.
        token_grid: (T, H, W) in tokens (merged patches).

    Returns:
        int64 (3, len(ids)).
    """
    length = len(ids)
    if not _announces_video(ids, vision_start_id, video_id):
        return text_positions(0, length)
    first = ids.index(video_id)
    block = torch.cartesian_prod(*(torch.arange(side) for side in token_grid)).view(-1, 3).T + first
    rest = text_positions(int(block.max()) + 1, length - first - block.shape[1])
    return torch.cat((text_positions(0, first), block, rest), dim=1)


def _announces_video(ids: Sequence[int], vision_start_id: int, video_id: int) -> bool:
    start = ids.index(vision_start_id)
    return ids[start + 1] == video_id


def signed_sine(sine: Tensor) -> Tensor:
    """The sine with the minus that `turn` needs in the first half of the last dimension."""
    first, second = sine.chunk(2, dim=-1)
    return torch.cat((-first, second), dim=-1)


def turn(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate queries or keys by their positions; `sine` is signed, so that turning is a swap of halves."""
    swapped = states.roll(states.shape[-1] // 2, dims=-1)
    return torch.addcmul(states * cosine, swapped, sine).to(states.dtype)
