import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vm.errors import UnsupportedMedia
from vm.patches import fit_size, to_patches

SIDE = 28
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)

sides = st.integers(1, 5000)
tokens = st.integers(1, 256)
limits = st.tuples(tokens, tokens).map(lambda t: (min(t) * SIDE**2, max(t) * SIDE**2))  # pixels


def nearest_multiple(number: int) -> int:
    return max(SIDE, round(number / SIDE) * SIDE)


def reference_size(height: int, width: int, low: int, high: int) -> tuple[int, int]:
    """qwen-vl-utils' rule, said plainly: round both sides; if that misses a limit, scale to it."""
    rounded = nearest_multiple(height), nearest_multiple(width)
    if low <= rounded[0] * rounded[1] <= high:
        return rounded
    if rounded[0] * rounded[1] > high:
        shrink = math.sqrt(height * width / high)
        return tuple(max(SIDE, math.floor(s / shrink / SIDE) * SIDE) for s in (height, width))  # type: ignore[return-value]
    stretch = math.sqrt(low / (height * width))
    return tuple(math.ceil(s * stretch / SIDE) * SIDE for s in (height, width))  # type: ignore[return-value]


def is_too_narrow(height: int, width: int) -> bool:
    return max(height, width) > 200 * min(height, width)


@given(sides, sides, limits)
def test_size_is_that_of_the_published_rule(height: int, width: int, pixels: tuple[int, int]) -> None:
    if is_too_narrow(height, width):
        with pytest.raises(UnsupportedMedia, match="too narrow"):
            fit_size(height, width, *pixels)
    else:
        assert fit_size(height, width, *pixels) == reference_size(height, width, *pixels)


@given(sides, sides, limits)
def test_sides_are_whole_tokens_and_the_area_keeps_the_limit_that_was_missed(
    height: int, width: int, pixels: tuple[int, int]
) -> None:
    assume(not is_too_narrow(height, width))
    low, high = pixels
    rows, columns = (side / SIDE for side in fit_size(height, width, low, high))
    assert rows == int(rows) >= 1
    assert columns == int(columns) >= 1
    if height * width <= low / 4:
        assert rows * columns * SIDE**2 >= low
    # A side that would shrink below one token is held at one, and then the other may be too long.
    if height * width >= high * 4 and min(rows, columns) > 1:
        assert rows * columns * SIDE**2 <= high


def test_sizes_of_known_videos() -> None:
    low, high = 36 * SIDE**2, 64 * SIDE**2
    assert fit_size(720, 1280, low, high) == (168, 280)
    assert fit_size(1280, 720, low, high) == (280, 168)
    assert fit_size(90, 90, low, high) == (168, 168)


def plain_patches(frames: torch.Tensor) -> torch.Tensor:
    """Value by value: patches in 2×2 groups, each ordered by channel, frame, row and column."""
    count, _, height, width = frames.shape
    values = []
    for t in range(0, count, 2):
        for top in range(0, height, 28):
            for left in range(0, width, 28):
                for corner_y, corner_x in ((0, 0), (0, 14), (14, 0), (14, 14)):
                    for channel in range(3):
                        for frame in (t, t + 1):
                            y, x = top + corner_y, left + corner_x
                            square = frames[frame, channel, y : y + 14, x : x + 14].double() / 255
                            values.append(((square - MEAN[channel]) / DEVIATION[channel]).flatten())
    return torch.cat(values).view(count // 2, height * width // 196, 1176)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**31))
def test_patches_stand_where_qwen2_vl_wants_them(pairs: int, rows: int, columns: int, seed: int) -> None:
    shape = (2 * pairs, 3, rows * SIDE, columns * SIDE)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(to_patches(frames).double(), plain_patches(frames), atol=1e-6, rtol=0)


def test_patches_come_in_the_dtype_asked_for_and_leave_the_frames_alone() -> None:
    frames = torch.full((2, 3, SIDE, SIDE), 200, dtype=torch.uint8)
    assert to_patches(frames, torch.bfloat16).dtype == torch.bfloat16
    assert frames.eq(200).all()
