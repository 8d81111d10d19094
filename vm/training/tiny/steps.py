"""Makes the bundled checkpoint from nothing, step by step: `python -m vm.training.tiny STEP`.

Each step goes on where it was stopped, and is done when its result is there. Under torchrun the base is
trained by several processes together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from vm.errors import TrainingError
from vm.scenes.clip import clips
from vm.training.tiny.bank import Bank
from vm.training.tiny.base import special_ids, train_base
from vm.training.tiny.base_lessons import Pupil
from vm.training.tiny.role_training import find_candidates, train_tiny_role
from vm.training.tiny.sizes import base_config
from vm.training.tiny.tokenizer import make_tokenizer
from vm.training.tiny.vision import train_vision, trained_tower
from vm.training.tiny.wording import corpus
from vm.training.trainer import TrainSettings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Folder = Annotated[Path, typer.Option(metavar="DIR", help="Keeps everything.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps in all.")]
Processes = Annotated[int, typer.Option(help="Each with one thread.")]

_FOLDER = Path("build/tiny")
_CORPUS_CLIPS = 1500


@app.command()
def tokenizer(folder: Folder = _FOLDER) -> None:
    """Make the tokenizer from the world's texts."""
    if not (folder / "tokenizer" / "chat_template.json").exists():
        make_tokenizer(corpus(clips("train", _CORPUS_CLIPS)), folder / "tokenizer")


@app.command()
def vision(folder: Folder = _FOLDER, steps: Steps = 1800) -> None:
    """Train the vision tower on pairs of frames; one process draws them, one learns."""
    torch.set_num_threads(1)
    train_vision(folder / "vision", steps, workers=1)


@app.command()
def bank(
    folder: Folder = _FOLDER,
    first: Annotated[int, typer.Option(help="Number of the first clip.")] = 0,
    clips: Annotated[int, typer.Option(help="How many clips.")] = 5000,
    processes: Processes = 2,
) -> None:
    """Draw clips, and keep what the tower makes of them."""
    _after(folder, "tokenizer", "vision")
    workers = [
        get_context("spawn").Process(target=_fill, args=(folder, range(first + i, first + clips, processes)))
        for i in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise typer.Exit(1)


def _fill(folder: Path, numbers: range) -> None:
    torch.set_num_threads(1)
    config = base_config(special_ids(Pupil.load(folder / "tokenizer")))
    Bank(folder / "bank").fill(trained_tower(folder / "vision", config), numbers)


@app.command()
def base(folder: Folder = _FOLDER, steps: Steps = 3000) -> None:
    """Train the base's language model."""
    _after(folder, "tokenizer", "vision", "bank")
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")
    train_base(folder / "tokenizer", folder / "vision", folder / "bank", folder / "base", steps)


@dataclass(frozen=True)
class _Course:
    """How a role is trained."""

    steps: int
    rate: float
    new_rate: float
    accumulation: int


Name = Literal["planner", "grounder", "verifier"]
_COURSES: dict[Name, _Course] = {
    "planner": _Course(300, 2e-3, 2e-3, 4),
    "grounder": _Course(1500, 1.5e-3, 1e-3, 8),
    "verifier": _Course(1000, 1.5e-3, 1e-3, 8),
}


@app.command()
def role(
    name: Annotated[Name, typer.Argument(help="The verifier after the grounder.")],
    folder: Folder = _FOLDER,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.")] = None,
) -> None:
    """Train a role of the checkpoint. The verifier learns from what the grounder finds."""
    _after(folder, "bank", "base", *(["role grounder"] if name == "verifier" else []))
    torch.set_num_threads(1)
    base, bank = folder / "base" / "base", Bank(folder / "bank")
    if name == "verifier" and not (folder / "found.jsonl").exists():
        find_candidates(folder, base, bank, 1500)
    course = _COURSES[name]
    settings = TrainSettings(
        max_steps=steps or course.steps,
        accumulation=course.accumulation,
        learning_rate=course.rate,
        decoder_learning_rate=course.new_rate,
        save_every=100,
    )
    train_tiny_role(name, folder, base, bank, settings)


# What each step leaves behind when it has something to go on with.
_RESULTS = {
    "tokenizer": "tokenizer/chat_template.json",
    "vision": "vision/state.pt",
    "bank": "bank/*.safetensors",
    "base": "base/base/model.safetensors",
    "role grounder": "checkpoint/grounder/adapter_model.safetensors",
}


def _after(folder: Path, *steps: str) -> None:
    """Raises: TrainingError naming the step that has to come before."""
    for step in steps:
        if not any(folder.glob(_RESULTS[step])):
            raise TrainingError(f"{folder} has no result of {step!r}: run that step first")
