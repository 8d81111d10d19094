"""What came out: every figure for every group of samples and every system, with 95 % intervals.

Numbers only; `vm.evaluation.tables` shows them to people.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vm.evaluation.bootstrap import Estimate, estimates
from vm.evaluation.metrics import FIGURES, Figure, Score, score
from vm.evaluation.samples import Prediction, Sample
from vm.result import ROUTES

ALL = "all"
DURATION_EDGES = (0, 15, 30, 60, 120, 300, 1800)  # seconds; after the last there is one bucket more
_BUCKETS = (
    *(f"{low} to {high} s" for low, high in pairwise(DURATION_EDGES)),
    f"{DURATION_EDGES[-1]} s and more",
)
_UNKNOWN_LENGTH = "unknown length"

Answers = Mapping[str, Sequence[Prediction]]
Estimates = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class Report:
    """Figures as shares, 0 to 1.

    Attributes:
        systems: name → its checkpoint's fingerprint; the others are compared with the first.
        figures: group → system → figure → estimate; a figure that says nothing of a group is left out.
        apart: the groups whose samples are not among `all`.
        differences: system → figure → estimate of that system less the first, on the same samples.
        failures: system → how many predictions failed. They count as wrong.
    """

    systems: Mapping[str, str]
    samples: int
    videos: int
    figures: Mapping[str, Estimates]
    apart: tuple[str, ...]
    differences: Estimates
    failures: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judged:
    """A sample, the groups it is reported under, and each system's score on it."""

    video: Hashable
    groups: tuple[str, ...]
    scores: Mapping[str, Score]


def make_report(
    samples: Sequence[Sample], answers: Answers, figures: Mapping[str, Figure] = FIGURES
) -> Report:
    """Score every prediction and sum up.

    Args:
        answers: by system, one prediction per sample, in the samples' order.
    """
    systems = {name: next((p.fingerprint for p in given), "") for name, given in answers.items()}
    judged = _judge(samples, answers)
    groups = _groups(judged)
    return Report(
        systems=systems,
        samples=len(samples),
        videos=len({sample.video for sample in samples}),
        figures={group: _estimates(members, [*systems], figures) for group, members in groups.items()},
        apart=tuple(group for group in groups if not any(ALL in one.groups for one in groups[group])),
        differences=_differences(groups.get(ALL, judged), [*systems], figures),
        failures={name: sum(p.error is not None for p in given) for name, given in answers.items()},
    )


def _judge(samples: Sequence[Sample], answers: Answers) -> list[Judged]:
    judged = []
    for sample, *given in zip(samples, *answers.values(), strict=True):
        duration = next((p.duration for p in given if p.duration is not None), None)
        scores = {name: score(sample, prediction) for name, prediction in zip(answers, given, strict=True)}
        judged.append(Judged(sample.video, _groups_of(sample, duration), scores))
    return judged


def _groups_of(sample: Sample, duration: float | None) -> tuple[str, ...]:
    if sample.apart:
        return sample.groups
    modes = [sample.mode] if sample.mode else []
    return tuple(dict.fromkeys((ALL, *sample.groups, *modes, duration_bucket(duration))))


def duration_bucket(seconds: float | None) -> str:
    """The name of the bucket a video's length falls in."""
    if seconds is None:
        return _UNKNOWN_LENGTH
    return _BUCKETS[sum(seconds >= edge for edge in DURATION_EDGES[1:])]


def _groups(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    """All, then the samples' own groups by name, modes and lengths; what only repeats `all` is left out."""
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        for group in one.groups:
            groups.setdefault(group, []).append(one)
    last = [*ROUTES, *_BUCKETS, _UNKNOWN_LENGTH]
    own = sorted(groups.keys() - {ALL, *last})
    repeats = {group for group in groups if group != ALL and groups[group] == groups.get(ALL)}
    return {group: groups[group] for group in (ALL, *own, *last) if group in groups and group not in repeats}


def _estimates(
    members: Sequence[Judged], systems: Sequence[str], figures: Mapping[str, Figure]
) -> dict[str, dict[str, Estimate]]:
    columns = {
        (system, name): [figure(one.scores[system]) for one in members]
        for system in systems
        for name, figure in figures.items()
    }
    return _by_system(members, columns, systems)


def _differences(
    members: Sequence[Judged], systems: Sequence[str], figures: Mapping[str, Figure]
) -> dict[str, dict[str, Estimate]]:
    first, *others = systems
    columns = {
        (system, name): [_less(figure(one.scores[system]), figure(one.scores[first])) for one in members]
        for system in others
        for name, figure in figures.items()
    }
    return _by_system(members, columns, others)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _by_system(
    members: Sequence[Judged],
    columns: Mapping[tuple[str, str], Sequence[float | None]],
    systems: Sequence[str],
) -> dict[str, dict[str, Estimate]]:
    """All columns of a group are estimated together, from the same draws."""
    found: dict[str, dict[str, Estimate]] = {system: {} for system in systems}
    if columns:
        values = np.array(list(columns.values()), dtype=np.float64).T
        for (system, name), made in zip(
            columns, estimates(values, [one.video for one in members]), strict=True
        ):
            if made is not None:
                found[system][name] = made
    return found
