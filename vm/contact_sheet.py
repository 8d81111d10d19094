"""Frames of moments with their times, on one picture: to look instead of read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vm.errors import QuestionError
from vm.moments import Span
from vm.render import SHOWN_MOMENTS, clock, describe, describe_scores
from vm.result import Result, VideoFacts
from vm.video import OpenVideo

FRAMES_PER_ROW = 6
MAX_TILE = (240, 240)  # pixels, width and height that a frame is fitted into
LABEL_HEIGHT = 20  # pixels
FONT_SIZE = 14  # pixels
MARGIN = 8  # pixels
PAPER, INK = "white", "black"


@dataclass(frozen=True)
class Strip:
    """A caption, and the frames below it with their times."""

    caption: str
    tiles: tuple[tuple[Image.Image, str], ...]

    @property
    def tile_height(self) -> int:
        return max((picture.height for picture, _ in self.tiles), default=0)

    @property
    def width(self) -> float:
        return sum(picture.width + MARGIN for picture, _ in self.tiles)


def write_contact_sheet(result: Result, reader: OpenVideo, target: Path) -> None:
    """Write a PNG with a row of frames per moment, the best on top; without moments, of the answer's segment.

    Args:
        reader: of the video that the result is about.

    Raises:
        QuestionError: the picture cannot be written.
        VideoError: as reading frames does.
    """
    write_strips(read_strips(_captioned(result), reader), target)


def read_strips(captioned: Sequence[tuple[str, Span]], reader: OpenVideo) -> list[Strip]:
    """A strip for each caption and stretch of a video, read in one go so that each frame is decoded once.

    Raises:
        VideoError: as reading frames does.
    """
    rows = [_indices(span, reader) for _, span in captioned]
    tiles = _tiles([index for row in rows for index in row], reader)
    return [
        Strip(caption, tuple(next(tiles) for _ in row))
        for (caption, _), row in zip(captioned, rows, strict=True)
    ]


def write_strips(strips: Sequence[Strip], target: Path) -> None:
    """Write a PNG with strips below each other, of one video or of several.

    Raises:
        QuestionError: the picture cannot be written.
    """
    try:
        _draw(strips).save(target, "PNG")
    except OSError as problem:
        raise QuestionError(f"{target}: cannot be written: {problem.strerror or problem}") from problem


def _captioned(result: Result) -> list[tuple[str, Span]]:
    captions = [
        (f"{moment.rank}   {describe(moment.span)}   {describe_scores(moment)}", moment.span)
        for moment in result.moments[:SHOWN_MOMENTS]
    ]
    if captions:
        return captions
    span = result.answer.span if result.answer else Span(0.0, result.video.duration)
    return [(f"answered from {describe(span)}", span)]


def _indices(span: Span, reader: OpenVideo) -> tuple[int, ...]:
    """Evenly spaced frames of a span; one that is sampled twice, because the span is short, is shown once."""
    return tuple(dict.fromkeys(reader.sample(span, reader.info.frame_rate, FRAMES_PER_ROW)))


def _tiles(indices: Sequence[int], reader: OpenVideo) -> Iterator[tuple[Image.Image, str]]:
    """The frames with their times."""
    width, height = _tile_size(reader.info)
    frames = reader.read(indices, (height, width))
    for pixels, timestamp in zip(frames.pixels, frames.timestamps, strict=True):
        yield Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), clock(timestamp)


def _tile_size(video: VideoFacts) -> tuple[int, int]:
    """Width and height of a frame fitted into `MAX_TILE`, never enlarged."""
    scale = min(MAX_TILE[0] / video.width, MAX_TILE[1] / video.height, 1.0)
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))


def _draw(strips: Sequence[Strip]) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    heights = [strip.tile_height + 2 * LABEL_HEIGHT + MARGIN for strip in strips]
    widest = max(max(strip.width, font.getlength(strip.caption)) for strip in strips)
    sheet = Image.new("RGB", (2 * MARGIN + math.ceil(widest), MARGIN + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for strip, height in zip(strips, heights, strict=True):
        draw.text((MARGIN, top), strip.caption, INK, font)
        left = MARGIN
        for picture, time in strip.tiles:
            sheet.paste(picture, (left, top + LABEL_HEIGHT))
            draw.text((left, top + LABEL_HEIGHT + picture.height), time, INK, font)
            left += picture.width + MARGIN
        top += height
    return sheet
