"""Clips of the synthetic world → samples: encoded once, kept, and made anew when the world has changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import vm.scenes
from vm.chain import Progress
from vm.errors import EvaluationError
from vm.evaluation.samples import Sample
from vm.model.checkpoint import digest
from vm.result import ROUTES
from vm.scenes.clip import Clip, clips
from vm.scenes.vocabulary import SEEDS, Split
from vm.scenes.wording import SceneQuestion

HELD_OUT = "held-out combinations"


def scene_samples(
    split: Split, first: int, count: int, held_out: int, folder: Path, progress: Progress
) -> list[Sample]:
    """The questions about a split's clips, one of each mode per clip.

    Args:
        first, count: which of the split's clips; they show no combination that is held out of training.
        held_out: how many clips to make with such combinations. Only the questions about these are
            taken, and stand apart.
        folder: where the encoded clips are kept.

    Raises:
        EvaluationError: the split has not so many clips, or the folder cannot be written.
    """
    _check_range(split, first + max(count, held_out))
    usual, rare = clips(split, count, False, first), clips(split, held_out, True, first)
    chosen = [*usual, *(clip for clip in rare if any(question.held_out for question in clip.questions))]
    drawn = zip(chosen, draw_clips(chosen, folder, progress), strict=True)
    return [sample for clip, video in drawn for sample in _samples(clip, video)]


def one_of_each(count: int, first: int, folder: Path, progress: Progress) -> list[Sample]:
    """One question about each of `count` clips of the test split, the modes in turn.

    A clip about which nothing can be asked in the mode whose turn it is, is left out.

    Args, Raises: as of `scene_samples`.
    """
    _check_range("test", first + count)
    candidates = clips("test", len(SEEDS["test"]) - first, False, first)
    chosen = list(islice(_in_turn(candidates), count))
    videos = draw_clips([clip for clip, _ in chosen], folder, progress)
    drawn = zip(chosen, videos, strict=True)
    return [_sample(question, str(video), clip.duration) for (clip, question), video in drawn]


def _check_range(split: Split, end: int) -> None:
    if end > len(SEEDS[split]):
        raise EvaluationError(f"the {split} split has {len(SEEDS[split])} clips; ask for fewer")


def _in_turn(candidates: Iterable[Clip]) -> Iterator[tuple[Clip, SceneQuestion]]:
    modes = cycle(ROUTES)
    wanted = next(modes)
    for clip in candidates:
        question = next((question for question in clip.questions if question.mode == wanted), None)
        if question is not None:
            yield clip, question
            wanted = next(modes)


def draw_clips(chosen: Sequence[Clip], folder: Path, progress: Progress) -> list[Path]:
    """Each clip's file below `folder`, encoded where it is not there yet. Raises: EvaluationError."""
    place = folder / world_version()
    videos = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(chosen, start=1):
            progress(f"drawing clip {number} of {len(chosen)}", (number - 1) / len(chosen))
            videos.append(clip.write(place))
    except OSError as problem:
        raise EvaluationError(f"{place}: cannot be written: {problem.strerror}") from problem
    return videos


def world_version() -> str:
    """A digest of the code that draws and tells of scenes: clips drawn by other code have other truths."""
    sources = sorted(path for folder in vm.scenes.__path__ for path in Path(folder).glob("*.py"))
    return digest(sources)[:8]


def _samples(clip: Clip, video: Path) -> Iterator[Sample]:
    for question in clip.questions:
        if question.held_out or not clip.composition:
            yield _sample(question, str(video), clip.duration)


def _sample(question: SceneQuestion, video: str, duration: float) -> Sample:
    return Sample(
        video,
        question.question,
        duration=duration,
        query=question.query,
        spans=question.spans,
        options=question.options,
        answer=question.answer,
        mode=question.mode,
        groups=(HELD_OUT if question.held_out else question.topic,),
        apart=question.held_out,
    )
