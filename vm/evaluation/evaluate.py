"""Samples → predictions: VideoMind as it is or with roles left out, and two baselines beside it.

Each video is opened once and asked everything. A video that cannot be read, or a question that cannot be
worked on, becomes a failed prediction, which counts as wrong; only a checkpoint that does not work ends
the run.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from string import ascii_uppercase
from typing import Any

from vm.chain import Progress
from vm.config import ChainSettings
from vm.errors import CheckpointError, VideoMindError
from vm.evaluation.journal import Journal
from vm.evaluation.samples import Prediction, Sample, digest, route_of
from vm.mind import VideoMind, Watched
from vm.moments import Span
from vm.result import ROUTES, Mode, Result

_GUESSED_SPANS = 5  # as many as are ever looked at


@dataclass(frozen=True)
class System:
    """One way of answering a sample with a checkpoint.

    Attributes:
        name: what reports call it.
        planner: without, the question goes straight to grounder, verifier and (with options) answerer.
        verifier: without, the grounder's order stands.
        whole_video: the whole video is the moment, and the answerer is shown all of it; a baseline.
    """

    name: str
    planner: bool = True
    verifier: bool = True
    whole_video: bool = False

    def mode(self, sample: Sample) -> Mode:
        if self.whole_video:
            return "answer"
        if self.planner:
            return "auto"
        return "ground-answer" if sample.options else "ground"


@dataclass(frozen=True)
class Task:
    """One sample put to one system. `key` is a digest of everything the prediction depends on."""

    key: str
    system: System
    fingerprint: str
    sample: Sample

    def prediction(self, **found: Any) -> Prediction:
        fields = {"fingerprint": self.fingerprint} | found
        return _prediction(self.key, self.system.name, self.sample, **fields)


def plan_tasks(
    mind: VideoMind, systems: Sequence[System], samples: Iterable[Sample], chain: ChainSettings
) -> list[Task]:
    """Every sample for every system, those of one video together."""
    by_video: dict[str, list[Sample]] = {}
    for sample in samples:
        by_video.setdefault(sample.video, []).append(sample)
    checkpoint = mind.fingerprint
    common = [checkpoint, str(mind.cast.backbone.dtype), asdict(replace(chain, reuse_bytes=0))]
    return [
        Task(digest([sample.id, asdict(replace(system, name="")), common]), system, checkpoint, sample)
        for asked in by_video.values()
        for system in systems
        for sample in asked
    ]


def run_tasks(
    mind: VideoMind, tasks: Sequence[Task], chain: ChainSettings, journal: Journal, progress: Progress
) -> list[Prediction]:
    """A prediction for each task; only what the journal does not know is asked.

    Raises:
        CheckpointError: the checkpoint lacks a role, or gives no finite numbers.
        EvaluationError: the journal cannot be written.
    """
    missing = list({task.key: task for task in tasks if journal.get(task.key) is None}.values())
    for number, prediction in enumerate(_predict(mind, missing, chain), start=1):
        journal.add(prediction)
        progress(f"{number} of {len(missing)}", number / len(missing))
    found = [(task, journal.get(task.key)) for task in tasks]
    return [replace(known, system=task.system.name) for task, known in found if known is not None]


def _predict(mind: VideoMind, tasks: Sequence[Task], chain: ChainSettings) -> Iterator[Prediction]:
    for video, group in groupby(tasks, key=lambda task: task.sample.video):
        try:
            watched = mind.open(video, chain)
        except VideoMindError as error:
            yield from (task.prediction(error=str(error)) for task in group)
            continue
        with watched:
            yield from (_ask(watched, task, chain) for task in group)


def _ask(watched: Watched, task: Task, chain: ChainSettings) -> Prediction:
    system, sample, duration = task.system, task.sample, watched.video.duration
    if system.whole_video and not sample.options:
        return task.prediction(spans=(Span(0.0, duration),), duration=duration)
    try:
        result = watched.ask(
            sample.question,
            system.mode(sample),
            sample.options,
            window=chain.window,
            min_answer_seconds=chain.min_answer_seconds,
            verify=system.verifier,
        )
    except CheckpointError:
        raise
    except VideoMindError as error:
        return task.prediction(duration=duration, error=str(error))
    if system.whole_video:
        return task.prediction(spans=(Span(0.0, duration),), duration=duration, reply=_reply(result))
    return task.prediction(**_found(result))


def _found(result: Result) -> dict[str, Any]:
    return {
        "spans": tuple(moment.span for moment in result.moments),
        "confidences": tuple(moment.candidate.confidence for moment in result.moments),
        "fallback": any(candidate.fallback for candidate in result.candidates),
        "planned": result.plan.text is not None,
        "route": route_of(result.plan) if result.plan.text is not None else None,
        "query": result.query,
        "reply": _reply(result),
        "duration": result.video.duration,
    }


def _reply(result: Result) -> str | None:
    return (result.answer.option or result.answer.text) if result.answer else None


def guess(name: str, sample: Sample, known: Prediction) -> Prediction:
    """The random baseline: spans with uniform ends, a random plan and option; always the same for a sample.

    Args:
        known: what another system said of the sample, for the video's length; without that this fails, too.
    """
    dice = random.Random(sample.id)  # noqa: S311
    if known.duration is None:
        return _prediction("", name, sample, error=known.error)
    ends = [sorted(dice.uniform(0, known.duration) for _ in range(2)) for _ in range(_GUESSED_SPANS)]
    return _prediction(
        *("", name, sample),
        spans=tuple(Span(start, end) for start, end in ends),
        planned=True,
        route=dice.choice(ROUTES),
        reply=dice.choice(ascii_uppercase[: len(sample.options)]) if sample.options else None,
        duration=known.duration,
    )


def _prediction(key: str, system: str, sample: Sample, **found: Any) -> Prediction:
    fields = {"duration": sample.duration} | found
    return Prediction(key, sample.id, sample.video, sample.question, system, **fields)
