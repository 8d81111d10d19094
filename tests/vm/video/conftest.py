"""Makes small real videos whose every frame carries its number, and reads the number back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from vm.video import VideoReader

BITS = 8
SIZE = (96, 64)  # width, height


@dataclass(frozen=True)
class Recipe:
    """How a test video is made. `times` are presentation times in ticks, one frame each.

    `grain` is the strength of noise, up to 50, that makes a file large enough to be damaged in places.
    """

    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = SIZE
    rate: int = 25
    times: Sequence[int] = field(default_factory=lambda: range(100))
    time_base: Fraction | None = None
    options: dict[str, str] = field(default_factory=lambda: {"g": "20", "bf": "0"})
    container: str | None = None
    container_options: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    grain: int = 0


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """RGB (height, width, 3): the number in binary as black and white blocks, 2 rows of 4."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        block = np.s_[
            row * height // 2 : (row + 1) * height // 2, column * width // 4 : (column + 1) * width // 4
        ]
        image[block] = 235 if number >> bit & 1 else 20
    return image


def numbers(pixels: torch.Tensor) -> list[int]:
    """The numbers carried by frames, uint8 (N, 3, height, width), upright."""
    gray = pixels.float().mean(1)
    _, height, width = gray.shape
    rows, columns = (height // 4, 3 * height // 4), tuple((2 * c + 1) * width // 8 for c in range(4))
    bits = [gray[:, r, c] > 128 for r in rows for c in columns]
    return [sum(int(bit[n]) << place for place, bit in enumerate(bits)) for n in range(len(pixels))]


def write_video(path: Path, **changes: Any) -> Path:
    """Encodes `len(times)` frames that carry the numbers 0, 1, 2 …; `changes` are fields of `Recipe`."""
    recipe = Recipe(**changes)
    with av.open(str(path), "w", format=recipe.container, options=dict(recipe.container_options)) as out:
        stream = out.add_stream(recipe.codec, rate=recipe.rate, options=dict(recipe.options))
        stream.width, stream.height = recipe.size
        stream.pix_fmt = recipe.pixel_format
        stream.thread_count = 1
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        stream.codec_context.time_base = recipe.time_base or Fraction(1, recipe.rate)
        for frame in _frames(recipe):
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _frames(recipe: Recipe) -> Iterable[av.VideoFrame]:
    time_base = recipe.time_base or Fraction(1, recipe.rate)
    for number, time in enumerate(recipe.times):
        turns = recipe.rotation // 90 % 4
        shown = picture(number, recipe.size[::-1] if turns % 2 else recipe.size)
        stored = np.ascontiguousarray(np.rot90(shown, -turns))
        if recipe.grain:
            noise = np.random.default_rng(number).integers(-recipe.grain, recipe.grain, stored.shape)
            stored = (stored + noise).clip(0, 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
        frame = frame.reformat(format=recipe.pixel_format)
        frame.pts, frame.time_base = time, time_base
        yield frame


def straight_through(path: Path) -> list[tuple[int, float | None]]:
    """Number and time of every frame that plain decoding of the whole file gives, in its order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(_number(frame), frame.time) for frame in container.decode(stream)]


def _number(frame: av.VideoFrame) -> int:
    rgb = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    return numbers(torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None])[0]


class Footage:
    """Test videos in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, **changes: Any) -> Path:
        return write_video(self.folder / name, **changes)

    def straight_through(self, path: Path) -> list[tuple[int, float | None]]:
        return straight_through(path)

    def numbers_in(self, reader: VideoReader, indices: Sequence[int]) -> list[int]:
        """The numbers carried by these frames, read in full size."""
        return numbers(reader.read(indices, (reader.info.height, reader.info.width)).pixels)

    def grown(self, data: bytes, path: Sequence[bytes], tail: bytes) -> bytes:
        """An MP4's bytes with `tail` put at the end of the box at `path` (names from the outermost in)."""
        start, end, sizes = 0, len(data), []
        for name in path:
            start = data.index(name, start, end) - 4
            end = start + int.from_bytes(data[start : start + 4])
            sizes.append(start)
            start += 8
        changed = bytearray(data)
        for place in sizes:
            size = int.from_bytes(changed[place : place + 4]) + len(tail)
            changed[place : place + 4] = size.to_bytes(4)
        changed[end:end] = tail
        return bytes(changed)


@pytest.fixture
def footage(tmp_path: Path) -> Footage:
    return Footage(tmp_path)
