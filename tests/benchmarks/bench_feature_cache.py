"""Times a run over a video whose vision features are cached against the same run without a cache.

    python tests/benchmarks/bench_feature_cache.py [--repeats N] [--threads N] [--seconds S] [--large]

A generated clip is asked a question by a checkpoint, which fills the cache, and then by the same one and by
others that differ from it in one adapter: without a cache, with what the first has seen, and with what it
has seen itself. Each run opens the clip as a new process would, with nothing in memory. Another grounder
finds other moments, and what it has the verifier zoom in on has to be seen once.

`--large` uses a random-weight model of about 100 M parameters, made under build/. Its answers mean nothing,
its proportions do.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from random_model import make_random_model
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from vm import VideoMind
from vm.bundled import BUNDLED_CHECKPOINT
from vm.feature_cache import FeatureCache
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS

CHANGED = (None, "planner", "verifier", "grounder")
STAGES = ("decode", "vision")
SHIFT = 1.5  # what an adapter's weights are multiplied by


@dataclass(frozen=True)
class Run:
    """Seconds from opening to the answer, and those of them in decoding and in vision."""

    total: float
    decode: float
    vision: float


Trio = tuple[Run, Run, Run]
"""Without a cache, with what the first checkpoint has seen, and the same once more."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds of which the median is taken")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the clip")
    parser.add_argument("--large", action="store_true", help="the 100 M parameter random-weight model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = make_random_model(Path("build/random-100m")) if options.large else BUNDLED_CHECKPOINT
    with tempfile.TemporaryDirectory() as folder:
        clip = Clip(SEEDS["test"][0], False, options.seconds)
        contest = Contest(checkpoint, clip.write(Path(folder)), clip.questions[0].question, Path(folder))
        for table in contest.tables(options.repeats):
            Console().print(table)


class Contest:
    """One question on one clip, by several checkpoints with a common vision tower."""

    def __init__(self, checkpoint: Path, clip: Path, question: str, folder: Path) -> None:
        self.clip, self.question, self.folder = clip, question, folder
        self.checkpoints = {role: changed(checkpoint, role, folder) for role in CHANGED}
        self.size = 0

    def tables(self, repeats: int) -> list[Table]:
        """Medians over rounds in which all runs are made in turn; each is made once before."""
        minds = {role: VideoMind.load(path) for role, path in self.checkpoints.items()}
        self.round(minds)
        rounds = [self.round(minds) for _ in range(repeats)]
        whole = Table(
            "", "no cache, s", "cached, s", "no cache / cached", "once more, s", title="whole chain"
        )
        looking = Table("", "no cache, s", "cached, s", "once more, s", title="decode + vision")
        for role in CHANGED:
            trios = [timed[role] for timed, _ in rounds]
            plain, cached, again = totals(trios)
            ratio = statistics.median(trio[0].total / trio[1].total for trio in trios)
            name = f"another {role}" if role else "another process"
            whole.add_row(name, f"{plain:.3f}", f"{cached:.3f}", f"{ratio:.2f}", f"{again:.3f}")
            looking.add_row(name, *stages(trios))
        filling = statistics.median(first.total for _, first in rounds)
        whole.caption = f"filling the cache: {filling:.3f} s, {self.size / 2**20:.1f} MiB"
        return [whole, looking]

    def round(self, minds: dict[str | None, VideoMind]) -> tuple[dict[str | None, Trio], Run]:
        """Each checkpoint's runs, and the one that filled the cache."""
        filled, own = self.folder / "filled", self.folder / "own"
        shutil.rmtree(filled, ignore_errors=True)
        first = self.ask(minds[None], filled)
        self.size = sum(path.stat().st_size for path in filled.rglob("*.safetensors"))
        timed = {}
        for role, mind in minds.items():
            shutil.copytree(filled, own)
            timed[role] = (self.ask(mind, None), self.ask(mind, own), self.ask(mind, own))
            shutil.rmtree(own)
        return timed, first

    def ask(self, mind: VideoMind, cache: Path | None) -> Run:
        mind.feature_cache = FeatureCache(cache) if cache else None
        start = time.perf_counter()
        result = mind.ask(self.clip, self.question)
        total = time.perf_counter() - start
        return Run(total, result.seconds.get("decode", 0.0), result.seconds.get("vision", 0.0))


def changed(checkpoint: Path, role: str | None, folder: Path) -> Path:
    """The checkpoint with another adapter for one role, its base in common."""
    if role is None:
        return checkpoint
    copy = folder / role
    shutil.copytree(checkpoint, copy, ignore=shutil.ignore_patterns("base"))
    base = next(path for path in (checkpoint / "base", checkpoint.parent / "base") if path.is_dir())
    (copy / "base").symlink_to(base.resolve())
    path = copy / role / "adapter_model.safetensors"
    tensors = {
        name: tensor * SHIFT if "lora_B" in name else tensor for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    return copy


def totals(trios: list[Trio]) -> list[float]:
    return [statistics.median(run.total for run in runs) for runs in zip(*trios, strict=True)]


def stages(trios: list[Trio]) -> list[str]:
    return [
        " + ".join(f"{statistics.median(getattr(run, stage) for run in runs):.3f}" for stage in STAGES)
        for runs in zip(*trios, strict=True)
    ]


if __name__ == "__main__":
    main()
