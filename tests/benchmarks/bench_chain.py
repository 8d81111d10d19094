"""Times the chain against the plain baseline, interleaved in one run, and prints medians and ratios.

    python tests/benchmarks/bench_chain.py [--repeats N] [--threads N] [--large]

`--large` uses a random-weight model of about 100 M parameters, made under build/, and adds tokens per
second, peak memory and where the time goes. Its answers mean nothing, its proportions do.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from baseline import Baseline
from random_model import make_random_model
from rich.console import Console
from rich.table import Table

from vm import ChainSettings, VideoMind
from vm.footage import Footage
from vm.model.backbone import Backbone
from vm.moments import Candidate, Span
from vm.roles.verifier import verify

PARITY = Path(__file__).parent.parent / "parity"
EXPECTED = json.loads((PARITY / "expected.json").read_text())
# The large model takes minutes a question: one on a short and one on a longer clip.
LARGE_QUESTIONS = ("What happens when the white disc stops?", "Why did the dog turn around?")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds of which the median is taken")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--large", action="store_true", help="the 100 M parameter random-weight model")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    checkpoint = make_random_model(Path("build/random-100m")) if options.large else PARITY / "checkpoint"
    cases = [c for c in EXPECTED["cases"] if not options.large or c["question"] in LARGE_QUESTIONS]
    compare(checkpoint, cases, options.repeats, stages=options.large)


def compare(checkpoint: Path, cases: list[dict], repeats: int, stages: bool) -> None:
    mind, plain = VideoMind.load(checkpoint), Baseline(VideoMind.load(checkpoint))
    contests = {
        "whole chain": (lambda c: whole_chain(mind, c), lambda c: plain_chain(plain, c)),
        "second question": (lambda c: second_question(mind, c), lambda c: plain_chain(plain, c)),
        "verifier": (lambda c: verifier(mind, c), lambda c: plain_verifier(plain, c)),
    }
    table = Table("", "library, s", "baseline, s", "baseline / library", title=f"{len(cases)} questions")
    for name, (ours, theirs) in contests.items():
        table.add_row(name, *(f"{figure:.3f}" for figure in race(ours, theirs, cases, repeats)))
        print(f"timed: {name}", flush=True)
    console = Console()
    console.print(table)
    if stages:
        console.print(stage_table(mind, cases))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        console.print(f"peak resident memory with two models loaded: {peak:.0f} MiB")


def race(
    ours: Callable[[dict], float], theirs: Callable[[dict], float], cases: list[dict], repeats: int
) -> tuple[float, float, float]:
    """Medians over rounds of the sum over all cases and of the ratio; the first case is run once before."""
    ours(cases[0]), theirs(cases[0])
    rounds = []
    for _ in range(repeats):
        pairs = [(ours(case), theirs(case)) for case in cases]
        rounds.append((sum(a for a, _ in pairs), sum(b for _, b in pairs)))
    return (
        statistics.median(a for a, _ in rounds),
        statistics.median(b for _, b in rounds),
        statistics.median(b / a for a, b in rounds),
    )


def video(case: dict) -> Path:
    return PARITY / "videos" / case["video"]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def whole_chain(mind: VideoMind, case: dict) -> float:
    return seconds(lambda: mind.ask(video(case), case["question"]))


def plain_chain(plain: Baseline, case: dict) -> float:
    return seconds(lambda: plain.ask(video(case), case["question"]))


def second_question(mind: VideoMind, case: dict) -> float:
    """The case's question after another one was asked of the same open video."""
    with mind.open(video(case)) as watched:
        watched.ask("When does something else happen?", mode="ground-answer")
        watched.ask("What is this about?")
        return seconds(lambda: watched.ask(case["question"]))


def verifier(mind: VideoMind, case: dict) -> float:
    with mind.open(video(case)) as watched:
        footage: Footage = watched._footage
        candidates = [Candidate(span, 0.5) for span in spans(case)]
        return seconds(lambda: verify(mind.cast, footage, case["question"], candidates, ChainSettings()))


def plain_verifier(plain: Baseline, case: dict) -> float:
    work = [(span, case["duration"]) for span in spans(case)]
    return seconds(lambda: [plain.verify(video(case), case["question"], *given) for given in work])


def spans(case: dict) -> list[Span]:
    return [Span(start, end) for start, end, _ in case.get("candidates", [])]


def stage_table(mind: VideoMind, cases: list[dict]) -> Table:
    """Where the time of the whole chain goes."""
    spent = {"decode": 0.0, "vision": 0.0, "prefill": 0.0, "generation": 0.0, "rest": 0.0}
    tokens = {"prefill": 0, "generation": 0}
    with Probe(spent, tokens):
        for case in cases:
            result = mind.ask(video(case), case["question"])
            for stage in ("decode", "vision"):
                spent[stage] += result.seconds.get(stage, 0.0)
            spent["rest"] += result.seconds["total"]
    spent["rest"] -= sum(value for stage, value in spent.items() if stage != "rest")
    total = sum(spent.values())
    table = Table("stage", "seconds", "share", "tokens/s", title="whole chain, by stage")
    for stage, value in spent.items():
        rate = f"{tokens[stage] / value:.0f}" if stage in tokens else ""
        table.add_row(stage, f"{value:.2f}", f"{value / total:.0%}", rate)
    return table


class Probe:
    """Counts seconds and tokens of reading prompts and of reading back single new tokens."""

    def __init__(self, spent: dict[str, float], tokens: dict[str, int]) -> None:
        self.spent, self.tokens = spent, tokens

    def __enter__(self) -> None:
        self.read = read = Backbone.read

        def probed(backbone: Backbone, passages: list) -> list:
            count = sum(len(passage.ids) for passage in passages)
            stage = "generation" if count == 1 else "prefill"
            start = time.perf_counter()
            states = read(backbone, passages)
            self.spent[stage] += time.perf_counter() - start
            self.tokens[stage] += count
            return states

        Backbone.read = probed

    def __exit__(self, *_: object) -> None:
        Backbone.read = self.read


if __name__ == "__main__":
    main()
