"""Puts a command's questions to one video: shows what is answered, complains of what is not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vm.errors import QuestionError, VideoMindError
from vm.questions import Question
from vm.render import print_result
from vm.result import Mode, Result
from vm.subtitles import Cue
from vm.terminal import complain, print_json, progress

if TYPE_CHECKING:  # these take seconds to import, which --help and wrong usage need not wait for
    from vm.mind import Watched


@dataclass(frozen=True)
class Inquiry:
    """What holds for every question of one command.

    Times in seconds: `window` None for a single pass, `min_answer_seconds` None for the checkpoint's own.
    """

    mode: Mode
    subtitles: tuple[Cue, ...] | None
    window: float | None
    min_answer_seconds: float | None
    as_json: bool
    contact_sheet: Path | None


@contextmanager
def watching(
    video: Path, checkpoint: Path, base: str | None, device: str, dtype: str, feature_cache: Path | None
) -> Iterator[Watched]:
    """Load the model and open the video. Raises: VideoError, CheckpointError, DownloadError."""
    from vm.feature_cache import FeatureCache, hash_content
    from vm.mind import VideoMind
    from vm.video import open_video

    began = time.time()
    with open_video(video) as reader:  # first: a bad video is told before the time to load a model is spent
        with progress() as report:
            report("loading", 0.0)
            cache = FeatureCache(feature_cache) if feature_cache else None
            mind = VideoMind.load(checkpoint, base, device, dtype, cache)
            content_hash = hash_content(video, began) if cache else None
        with mind.open(reader, content_hash=content_hash) as watched:
            yield watched


def ask_all(
    watched: Watched, questions: Sequence[Question | QuestionError], inquiry: Inquiry
) -> list[VideoMindError]:
    """Answer what can be answered, and return what went wrong with the others."""
    failures: list[VideoMindError] = []
    for number, question in enumerate(questions, start=1):
        try:
            result = _ask_one(watched, question, inquiry)
            _show(result, inquiry.as_json)
            if inquiry.contact_sheet:
                _draw(result, watched, numbered(inquiry.contact_sheet, number, len(questions)))
        except VideoMindError as error:
            complain(error)
            failures.append(error)
    return failures


def _ask_one(watched: Watched, question: Question | QuestionError, inquiry: Inquiry) -> Result:
    if isinstance(question, QuestionError):
        raise question
    with progress() as report:
        return watched.ask(
            question.text,
            inquiry.mode,
            question.options,
            inquiry.subtitles,
            inquiry.window,
            inquiry.min_answer_seconds,
            report,
        )


def _show(result: Result, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
    else:
        print_result(result, Console())


def _draw(result: Result, watched: Watched, target: Path) -> None:
    from vm.contact_sheet import write_contact_sheet

    write_contact_sheet(result, watched.reader, target)


def numbered(target: Path, number: int, count: int) -> Path:
    """The file of one of several: OUT-1.png; of a single one the target itself."""
    return target if count == 1 else target.with_stem(f"{target.stem}-{number}")
