"""Clips of the synthetic world → samples: encoded once, kept, and made anew when the world has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import vm.scenes
from vm.chain import Progress
from vm.errors import EvaluationError
from vm.evaluation.samples import Sample
from vm.model.checkpoint import digest
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
    if first + max(count, held_out) > len(SEEDS[split]):
        raise EvaluationError(f"the {split} split has {len(SEEDS[split])} clips; ask for fewer")
    usual, rare = clips(split, count, False, first), clips(split, held_out, True, first)
    chosen = [*usual, *(clip for clip in rare if any(question.held_out for question in clip.questions))]
    place = folder / world_version()
    samples: list[Sample] = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, clip in enumerate(chosen, start=1):
            progress(f"drawing clip {number} of {len(chosen)}", (number - 1) / len(chosen))
            samples += _samples(clip, clip.write(place))
    except OSError as problem:
        raise EvaluationError(f"{place}: cannot be written: {problem.strerror}") from problem
    return samples


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
