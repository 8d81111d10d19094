"""The frames of the best moments with their times, on one picture: to look instead of read."""

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
class _Row:
    """A caption and the frames below it, by index."""

    caption: str
    indices: tuple[int, ...]


def write_contact_sheet(result: Result, reader: OpenVideo, target: Path) -> None:
    """Write a PNG with a row of frames per moment, the best on top; without moments, of the answer's segment.

    Args:
        reader: of the video that the result is about.

    Raises:
        QuestionError: the picture cannot be written.
        VideoError: as reading frames does.
    """
    sheet = _draw(_rows(result, reader), reader)
    try:
        sheet.save(target, "PNG")
    except OSError as problem:
        raise QuestionError(f"{target}: cannot be written: {problem.strerror or problem}") from problem


def _rows(result: Result, reader: OpenVideo) -> list[_Row]:
    captions = [
        (f"{moment.rank}   {describe(moment.span)}   {describe_scores(moment)}", moment.span)
        for moment in result.moments[:SHOWN_MOMENTS]
    ]
    if not captions:
        span = result.answer.span if result.answer else Span(0.0, result.video.duration)
        captions = [(f"answered from {describe(span)}", span)]
    return [_Row(caption, _indices(span, reader)) for caption, span in captions]


def _indices(span: Span, reader: OpenVideo) -> tuple[int, ...]:
    """Evenly spaced frames of a span; one that is sampled twice, because the span is short, is shown once."""
    return tuple(dict.fromkeys(reader.sample(span, reader.info.frame_rate, FRAMES_PER_ROW)))


def _draw(rows: Sequence[_Row], reader: OpenVideo) -> Image.Image:
    font = ImageFont.load_default(FONT_SIZE)
    width, height = _tile_size(reader.info)
    row_height = height + 2 * LABEL_HEIGHT + MARGIN
    widest = max(max(len(row.indices) * (width + MARGIN), font.getlength(row.caption)) for row in rows)
    sheet = Image.new("RGB", (2 * MARGIN + math.ceil(widest), MARGIN + len(rows) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    tiles = _tiles(rows, reader, (height, width))
    for number, row in enumerate(rows):
        top = MARGIN + number * row_height
        draw.text((MARGIN, top), row.caption, INK, font)
        for column in range(len(row.indices)):
            left = MARGIN + column * (width + MARGIN)
            picture, time = next(tiles)
            sheet.paste(picture, (left, top + LABEL_HEIGHT))
            draw.text((left, top + LABEL_HEIGHT + height), time, INK, font)
    return sheet


def _tile_size(video: VideoFacts) -> tuple[int, int]:
    """Width and height of a frame fitted into `MAX_TILE`, never enlarged."""
    scale = min(MAX_TILE[0] / video.width, MAX_TILE[1] / video.height, 1.0)
    return max(1, round(video.width * scale)), max(1, round(video.height * scale))


def _tiles(
    rows: Sequence[_Row], reader: OpenVideo, size: tuple[int, int]
) -> Iterator[tuple[Image.Image, str]]:
    """All frames with their times, row after row, read in one go so that each is decoded once."""
    frames = reader.read([index for row in rows for index in row.indices], size)
    for pixels, timestamp in zip(frames.pixels, frames.timestamps, strict=True):
        yield Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), clock(timestamp)
