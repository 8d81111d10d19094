"""Times the bundled checkpoint as its users meet it: loading it, and a first question on a 30-second clip.

    python tests/benchmarks/bench_bundled.py [--repeats N] [--threads N]

Each question is asked of the file, which is opened, decoded and encoded for it anew.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from vm import VideoMind
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS

SECONDS = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds of which the median is taken")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clip, mind = Clip(SEEDS["test"][0], False, SECONDS), VideoMind.load()
    with tempfile.TemporaryDirectory() as folder:
        video = clip.write(Path(folder))
        works: dict[str, Callable[[], object]] = {"load the checkpoint": VideoMind.load}
        for asked in clip.questions:
            works[f"first question: {asked.mode}"] = lambda asked=asked: mind.ask(
                video, asked.question, options=asked.options
            )
        Console().print(table(works, options.repeats))


def table(works: dict[str, Callable[[], object]], repeats: int) -> Table:
    """Medians over rounds in which all are timed in turn; each is done once before."""
    for work in works.values():
        work()
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(repeats)]
    shown = Table("", "seconds", title=f"bundled checkpoint, {SECONDS:g}-second clip")
    for name in works:
        shown.add_row(name, f"{statistics.median(timed[name] for timed in rounds):.3f}")
    return shown


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
