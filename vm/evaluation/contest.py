"""Which systems answer the samples: a chain, the same without a role, other checkpoints, baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.config import ChainSettings
from vm.ensemble import combine
from vm.evaluation.evaluate import System, guess, plan_tasks, run_tasks
from vm.evaluation.journal import Journal
from vm.evaluation.samples import Prediction, Sample
from vm.mind import VideoMind
from vm.model.checkpoint import open_checkpoint
from vm.terminal import progress

CHAIN = "chain"
WHOLE_VIDEO = "whole video"
RANDOM = "random"
RESERVED_NAMES = frozenset({CHAIN, WHOLE_VIDEO, RANDOM, "without verifier", "without planner"})


@dataclass(frozen=True)
class Contest:
    """What to evaluate.

    Attributes:
        planner, verifier: whether the chains have one.
        ablations: also the chain without its verifier, and without its planner.
        baselines: also the whole video, and chance.
        others: further checkpoints by name, run as the first one is, each on the base in its own folder
            where there is one. Several under one name each bring the roles they have, on models of
            their own.
    """

    checkpoint: Path
    base: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    planner: bool = True
    verifier: bool = True
    ablations: bool = False
    baselines: bool = True
    others: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    chain: ChainSettings = field(default_factory=ChainSettings)

    def check(self) -> None:
        """Find out what is wrong with the checkpoints before time is spent. Raises: CheckpointError."""
        others = (folder for folders in self.others.values() for folder in folders)
        for checkpoint in (self.checkpoint, *others):
            open_checkpoint(checkpoint, self.base_of(checkpoint))

    def base_of(self, checkpoint: Path) -> str | None:
        own = checkpoint != self.checkpoint and (checkpoint / "base").is_dir()
        return None if own else self.base

    @property
    def systems(self) -> list[System]:
        """Those of the first checkpoint."""
        systems = [System(CHAIN, self.planner, self.verifier)]
        if self.ablations and self.verifier:
            systems.append(System("without verifier", self.planner, verifier=False))
        if self.ablations and self.planner:
            systems.append(System("without planner", planner=False, verifier=self.verifier))
        return systems


def hold(contest: Contest, samples: Sequence[Sample], journal: Journal) -> dict[str, list[Prediction]]:
    """By system, one prediction per sample in the samples' order, with a progress bar.

    Checkpoints are in memory one after the other, not together.

    Raises:
        CheckpointError, DownloadError, EvaluationError.
    """
    baseline = [System(WHOLE_VIDEO, whole_video=True)] if contest.baselines else []
    answers = _ask(contest, [contest.checkpoint], [*contest.systems, *baseline], samples, journal)
    whole_video = answers.pop(WHOLE_VIDEO, None)
    for name, folders in contest.others.items():
        answers |= _ask(contest, folders, [System(name, contest.planner, contest.verifier)], samples, journal)
    if whole_video is not None:
        known = zip(samples, whole_video, strict=True)
        answers[WHOLE_VIDEO] = whole_video
        answers[RANDOM] = [guess(RANDOM, sample, asked) for sample, asked in known]
    return answers


def _ask(
    contest: Contest,
    checkpoints: Sequence[Path],
    systems: Sequence[System],
    samples: Sequence[Sample],
    journal: Journal,
) -> dict[str, list[Prediction]]:
    mind = _load(contest, checkpoints)
    tasks = plan_tasks(mind, systems, samples, contest.chain)
    with progress() as report:
        made = run_tasks(mind, tasks, contest.chain, journal, report)
    found = {(prediction.system, prediction.sample): prediction for prediction in made}
    return {system.name: [found[system.name, sample.id] for sample in samples] for system in systems}


def _load(contest: Contest, checkpoints: Sequence[Path]) -> VideoMind:
    minds = []
    with progress() as report:
        for number, folder in enumerate(checkpoints):
            report(f"loading {folder.name}", number / len(checkpoints))
            minds.append(VideoMind.load(folder, contest.base_of(folder), contest.device, contest.dtype))
    return minds[0] if len(minds) == 1 else combine(minds)
