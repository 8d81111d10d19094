"""A clip of the synthetic world: a seed, and everything that follows from it."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vm.scenes.drawing import Look, Painter, random_look
from vm.scenes.script import Script, write_script
from vm.scenes.vocabulary import SEEDS, Split
from vm.scenes.wording import SceneQuestion, ask_about
from vm.video.writing import write_video

_SIZES = ((320, 240), (320, 240), (384, 216), (320, 180), (288, 288), (240, 320), (480, 360))
_FRAME_RATES = (8, 10, 12, 15, 25)
_CODECS = (("libx264", "mp4"), ("libx264", "mkv"), ("mpeg4", "mp4"), ("libx264", "mp4"), ("libx265", "mp4"))
_SHORTEST, _LONGEST = 10.0, 150.0  # seconds


@dataclass(frozen=True)
class Clip:
    """One short video. Two clips of one seed are alike to the last pixel.

    Attributes:
        seed: decides everything else.
        composition: whether combinations that are held out from training occur (see `write_script`).
        length: seconds, or None for what the seed says (10 to 150).
    """

    seed: int
    composition: bool | None = None
    length: float | None = None

    @cached_property
    def _plan(self) -> tuple[Script, Look, int, tuple[str, str]]:
        rng = random.Random(f"scene {self.seed} {self.composition}")  # noqa: S311
        seconds = math.exp(rng.uniform(math.log(_SHORTEST), math.log(_LONGEST)))
        frame_rate = rng.choice(_FRAME_RATES)
        frames = round((self.length or seconds) * frame_rate)
        width, height = rng.choice(_SIZES)
        script = write_script(rng, frames / frame_rate, width / height, self.composition)
        return script, random_look(rng, width, height), frame_rate, rng.choice(_CODECS)

    @property
    def script(self) -> Script:
        return self._plan[0]

    @property
    def look(self) -> Look:
        return self._plan[1]

    @property
    def frame_rate(self) -> int:
        """Frames per second."""
        return self._plan[2]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.script.duration

    @property
    def frame_count(self) -> int:
        return round(self.duration * self.frame_rate)

    @cached_property
    def questions(self) -> tuple[SceneQuestion, ...]:
        """One of each mode where the scene has something to ask about."""
        return ask_about(self.script, self.look, random.Random(f"questions {self.seed}"))  # noqa: S311

    @cached_property
    def painter(self) -> Painter:
        return Painter(self.script, self.look)

    def frame(self, number: int) -> np.ndarray:
        """uint8 (height, width, 3), RGB, before encoding."""
        return self.painter.frame(number / self.frame_rate)

    def write(self, folder: Path) -> Path:
        """Encode the clip into `folder`, unless it is there; the file appears whole or not at all."""
        codec, suffix = self._plan[3]
        kind = "" if self.composition is None else f"-{int(self.composition)}"
        path = folder / f"scene-{self.seed}{kind}.{suffix}"
        if not path.exists():
            partial = path.with_name(f".{path.stem}.{os.getpid()}.{suffix}")
            frames = (self.frame(number) for number in range(self.frame_count))
            try:
                write_video(partial, frames, self.look.width, self.look.height, self.frame_rate, codec)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        return path


def clips(split: Split, count: int, composition: bool | None = None, start: int = 0) -> Iterator[Clip]:
    """`count` clips of a split, from its seed number `start` on; training holds combinations out."""
    seeds = SEEDS[split]
    if split == "train":
        composition = False
    for number in range(start, start + count):
        yield Clip(seeds[number], composition)
