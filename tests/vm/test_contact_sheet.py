from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vm.contact_sheet import write_contact_sheet
from vm.errors import QuestionError
from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step
from vm.video import open_video

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 5 frames per second: two red, two green, two blue."""
    path = tmp_path_factory.mktemp("video") / "colours.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(5))
        stream.width, stream.height, stream.pix_fmt = 160, 90, "bgr0"
        for colour in (RED, GREEN, BLUE):
            for _ in range(10):
                picture = np.full((90, 160, 3), colour, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode())
    return path


def sheet(video: Path, target: Path, spans: list[Span], answer: Answer | None = None) -> Image.Image:
    with open_video(video) as reader:
        candidates = tuple(Candidate(span, 0.5) for span in spans)
        result = Result(
            question="what?",
            mode="auto",
            options=(),
            plan=Plan((Step("grounder"),)),
            query="what",
            candidates=candidates,
            moments=rank_moments(candidates, "what"),
            answer=answer,
            video=reader.info,
            fingerprint="",
            warnings=(),
            seconds={},
        )
        write_contact_sheet(result, reader, target)
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        return picture.convert("RGB")


def colours(picture: Image.Image) -> list[tuple[int, ...]]:
    """The saturated colours, in the order in which rows of tiles show them."""
    found = [picture.getpixel((20, y)) for y in range(picture.height)]
    bold = [pixel for pixel in found if isinstance(pixel, tuple) and max(pixel) - min(pixel) > 150]
    return list(dict.fromkeys(bold))


def test_moments_stand_below_each_other_best_first(video: Path, tmp_path: Path) -> None:
    picture = sheet(video, tmp_path / "sheet.png", [Span(4.2, 5.6), Span(0.2, 1.6)])
    assert colours(picture) == [BLUE, RED]
    assert picture.size == (2 * 8 + 6 * 168, 8 + 2 * (90 + 48))


def test_captions_and_times_are_written(video: Path, tmp_path: Path) -> None:
    picture = sheet(video, tmp_path / "sheet.png", [Span(0.2, 1.6)])
    for top in (8, 8 + 20 + 90):
        assert picture.crop((8, top, 168, top + 20)).convert("L").getextrema()[0] < 100


def test_a_short_moment_shows_its_frame_once(video: Path, tmp_path: Path) -> None:
    picture = sheet(video, tmp_path / "sheet.png", [Span(3.0, 3.0)])
    saturated = [picture.getpixel((x, 60)) == GREEN for x in range(picture.width)]
    assert saturated == [8 <= x < 8 + 160 for x in range(picture.width)]
    assert picture.width > 2 * 8 + 168, "the caption is cut off"


def test_without_moments_the_answers_segment_is_shown(video: Path, tmp_path: Path) -> None:
    answer = Answer("green", None, Span(2.2, 3.6))
    assert colours(sheet(video, tmp_path / "sheet.png", [], answer)) == [GREEN]


def test_a_target_that_cannot_be_written_is_named(video: Path, tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r"no/sheet\.png: cannot be written: No such file"):
        sheet(video, tmp_path / "no" / "sheet.png", [Span(0.0, 1.0)])
