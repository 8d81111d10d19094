"""Clips as the frozen vision tower sees them, made once and kept for all that is learnt after it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vm.config import PATCH_SIZE, PIXEL_FACTOR
from vm.model import vision
from vm.moments import Span
from vm.patches import to_patches
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS
from vm.training.tiny.sizes import ROLES
from vm.training.tiny.vision import shown, shown_size
from vm.video.sampling import sample_indices

ASIDE = 100_000  # the number of the first clip that is kept for the verifier
_ALIKE = 48  # clips that are put in order of their length, per process
_BATCH = 64  # temporal patches encoded together


@dataclass(frozen=True)
class Footprint:
    """A clip's features by view, (T, H·W, hidden) float16 each.

    Attributes:
        ground: what the grounder is shown.
        dense: two frames a second throughout; the same as `ground` where that is all of them.
        whole: what the answerer is shown of the whole clip.
    """

    clip: Clip
    ground: Tensor
    dense: Tensor
    whole: Tensor

    def token_grid(self, features: Tensor) -> tuple[int, int, int]:
        height, width = shown_size(self.clip)
        return len(features), height // PIXEL_FACTOR, width // PIXEL_FACTOR

    def cut(self, span: Span) -> Tensor:
        """The dense features of a stretch, at least two temporal patches."""
        return self.dense[slice(*self._patches(span))]

    def fitted(self, span: Span) -> Span:
        """Where the features of a stretch really lie, in seconds."""
        first, last = self._patches(span)
        seconds = self.clip.duration / len(self.dense)
        return Span(first * seconds, min(last * seconds, self.clip.duration))

    def _patches(self, span: Span) -> tuple[int, int]:
        count, duration = len(self.dense), self.clip.duration
        first = min(round(span.start / duration * count), count - 2)
        return first, max(round(span.end / duration * count), first + 2)


def training_clip(number: int) -> Clip:
    """A clip of the training split; three in four are short, since those teach most for their cost."""
    rng = random.Random(f"length {number}")  # noqa: S311
    low, high = (10, 45) if rng.random() < 0.75 else (45, 150)
    length = math.exp(rng.uniform(math.log(low), math.log(high)))
    return Clip(SEEDS["train"][number], False, round(length, 1))


def views(clip: Clip) -> dict[str, tuple[int, ...]]:
    """Frame numbers of each view; those that are the same as an earlier one are left out."""
    frames, rate = clip.frame_count, clip.frame_rate
    wanted = {
        "ground": (ROLES["grounder"]["frame_rate"], ROLES["grounder"]["max_frames"]),
        "dense": (2.0, 400),
        "whole": (ROLES["answerer"]["frame_rate"], ROLES["answerer"]["max_frames"]),
    }
    made: dict[str, tuple[int, ...]] = {}
    for name, (frame_rate, most) in wanted.items():
        numbers = sample_indices(frames, rate, None, frame_rate, most)
        if numbers not in made.values():
            made[name] = numbers
    return made


@torch.inference_mode()
def encode_clip(tower: torch.nn.Module, clip: Clip) -> dict[str, Tensor]:
    """Features by view."""
    height, width = size = shown_size(clip)
    made = {}
    for name, numbers in views(clip).items():
        patches = to_patches(shown(clip, numbers, size))
        parts = [
            vision.encode(tower, p, height // PATCH_SIZE, width // PATCH_SIZE) for p in patches.split(_BATCH)
        ]
        made[name] = torch.cat(parts).half()
    return made


class Bank:
    """Footprints on disk, one file each, numbered from 0. More may come while it is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.safetensors"

    def fill(self, tower: torch.nn.Module, numbers: Iterable[int]) -> None:
        """Make what is missing."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            path = self.path(number)
            if not path.exists():
                partial = path.with_suffix(".partial")
                save_file(encode_clip(tower, training_clip(number)), partial)
                partial.replace(path)

    def numbers(self) -> list[int]:
        """Of what base, planner and grounder learn from."""
        return [number for number in self._all() if number < ASIDE]

    def aside(self) -> list[int]:
        """Of what they never see, so that the grounder's mistakes there are those it makes elsewhere."""
        return [number for number in self._all() if number >= ASIDE]

    def _all(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.safetensors"))

    def load(self, number: int) -> Footprint:
        stored = load_file(self.path(number))
        ground = stored["ground"]
        return Footprint(
            training_clip(number), ground, stored.get("dense", ground), stored.get("whole", ground)
        )


def endless(bank: Bank, seed: str, rank: int, processes: int) -> Iterator[int]:
    """Numbers of clips in random order, round after round, with those that have come meanwhile.

    Processes that learn together get clips of about one length at a time, so that none waits for another.
    """
    rng = random.Random(seed)  # noqa: S311
    while True:
        numbers = bank.numbers()
        rng.shuffle(numbers)
        for first in range(0, len(numbers), _ALIKE * processes):
            some = sorted(numbers[first : first + _ALIKE * processes], key=_length)
            dealt = [some[i : i + processes] for i in range(0, len(some), processes)]
            rng.shuffle(dealt)
            yield from (each[min(rank, len(each) - 1)] for each in dealt)


@cache
def _length(number: int) -> float:
    return training_clip(number).duration
