"""Makes the bundled checkpoint from nothing, step by step: `python -m vm.training.tiny STEP`.

Each step goes on where it was stopped, and is done when its result is there. What learns is taught by
several processes together under torchrun.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer

from vm.bundled import BUNDLED_CHECKPOINT
from vm.errors import TrainingError
from vm.mind import VideoMind
from vm.scenes.clip import clips
from vm.training.save import BASE_FOLDER
from vm.training.tiny.bank import ASIDE, Bank
from vm.training.tiny.base import train_base
from vm.training.tiny.candidates import propose
from vm.training.tiny.loop import rank
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_training import Course, Folders, train_course
from vm.training.tiny.tokenizer import make_tokenizer
from vm.training.tiny.vision import train_vision, trained_tower
from vm.training.tiny.wording import corpus
from vm.training.trainer import TrainSettings

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

RoleName = Literal["planner", "grounder", "verifier"]
Folder = Annotated[Path, typer.Option(metavar="DIR", help="Keeps everything.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps in all.")]
Share = Annotated[float, typer.Option(help="Of the usual number of steps.")]
Processes = Annotated[int, typer.Option(help="Each with one thread.")]

_FOLDER = Path("build/tiny")
_CORPUS_CLIPS = 1500
_STEPS: dict[RoleName, int] = {"planner": 120, "grounder": 300, "verifier": 500}
_ACCUMULATION = 4
_RATE, _FULL_RATE, _NEW_RATE = 1e-3, 3e-4, 5e-4


@app.command()
def tokenizer(folder: Folder = _FOLDER) -> None:
    """Make the tokenizer from the world's texts."""
    if not (folder / "tokenizer" / "chat_template.json").exists():
        make_tokenizer(corpus(clips("train", _CORPUS_CLIPS)), folder / "tokenizer")


@app.command()
def vision(folder: Folder = _FOLDER, steps: Steps = 1700) -> None:
    """Train the vision tower on pairs of frames, drawn as they are needed."""
    _begin()
    train_vision(folder / "vision", steps)


@app.command()
def bank(
    folder: Folder = _FOLDER,
    clips: Annotated[int, typer.Option(help="How many clips to learn from.")] = 5000,
    aside: Annotated[int, typer.Option(help="How many more to keep for the verifier.")] = 800,
    processes: Processes = 2,
) -> None:
    """Draw clips, and keep what the tower makes of them."""
    _after(folder, "tokenizer", "vision")
    _share(_fill, folder, [*range(clips), *range(ASIDE, ASIDE + aside)], processes)


def _fill(folder: Path, numbers: Sequence[int]) -> None:
    torch.set_num_threads(1)
    Bank(folder / "bank").fill(trained_tower(folder / "vision"), numbers)


def _share(
    work: Callable[[Path, Sequence[int]], None], folder: Path, numbers: Sequence[int], processes: int
) -> None:
    """Have each of several processes do its share."""
    start = get_context("spawn").Process
    workers = [start(target=work, args=(folder, numbers[i::processes])) for i in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise typer.Exit(1)


@app.command()
def base(folder: Folder = _FOLDER, steps: Steps = 6400) -> None:
    """Train the base's language model."""
    _after(folder, "tokenizer", "vision", "bank")
    _begin()
    train_base(folder / "tokenizer", folder / "vision", folder / "bank", folder / "base", steps)


@app.command()
def role(
    name: Annotated[RoleName, typer.Argument(help="The verifier after the proposals.")],
    folder: Folder = _FOLDER,
    share: Share = 1.0,
) -> None:
    """Train a role's adapter."""
    _train(Folders(folder), name, (name,), share, "checkpoint")


@app.command()
def proposals(folder: Folder = _FOLDER) -> None:
    """Let the trained grounder propose spans, for the verifier to learn from."""
    _after(folder, "bank", "base", "role grounder")
    folders = Folders(folder)
    if not folders.proposals.exists():
        mind = VideoMind.load(folders.checkpoint, folders.base, "cpu", "float32")
        propose(mind, Pupil.load(folders.base), folders.bank, folders.bank.aside(), folders.proposals)


@app.command()
def joint(folder: Folder = _FOLDER, share: Share = 1.0) -> None:
    """For comparison: one adapter for all roles together, on as many lessons of each."""
    unit = math.gcd(*_STEPS.values())
    turns = tuple(name for name, steps in _STEPS.items() for _ in range(steps // unit))
    folders = Folders(folder)
    _train(folders, "joint", turns, share, "joint")
    if rank() == 0:
        shutil.copytree(folders.base, folder / "joint" / BASE_FOLDER, dirs_exist_ok=True)


@app.command()
def separate(
    name: Annotated[RoleName, typer.Argument(help="Of which role.")],
    folder: Folder = _FOLDER,
    share: Share = 1.0,
) -> None:
    """For comparison: a whole model for one role alone, on as many lessons. `begun` has the base alone."""
    _train(Folders(folder), f"separate-{name}", (name,), share, f"separate-{name}", full=True)


@app.command()
def pack(
    folder: Folder = _FOLDER,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Gets base and roles.")] = BUNDLED_CHECKPOINT,
) -> None:
    """Put base and roles together, as one checkpoint that loads at once."""
    _after(folder, "base", "role planner", "role grounder", "role verifier")
    folders = Folders(folder)
    shutil.copytree(folders.checkpoint, out, dirs_exist_ok=True)
    shutil.copytree(folders.base, out / "base", dirs_exist_ok=True)


def _train(
    folders: Folders, name: str, roles: tuple[RoleName, ...], share: float, out: str, full: bool = False
) -> None:
    _after(folders.root, "bank", "base", *(["proposals"] if "verifier" in roles else []))
    _begin()
    settings = TrainSettings(
        max_steps=max(1, round(sum(_STEPS[role] for role in set(roles)) * share)),
        accumulation=_ACCUMULATION,
        learning_rate=_FULL_RATE if full else _RATE,
        decoder_learning_rate=_NEW_RATE,
        save_every=100,
    )
    course = Course(roles, settings, full)
    train_course(course, folders, folders.root / f"{name}.run", folders.root / out)


def _begin() -> None:
    """One thread a process; under torchrun several processes learn together."""
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        torch.distributed.init_process_group("gloo")


# What each step leaves behind when it has something to go on with.
_RESULTS = {
    "tokenizer": "tokenizer/chat_template.json",
    "vision": "vision/tower.safetensors",
    "bank": "bank/*.safetensors",
    "base": "base/base/model.safetensors",
    **{f"role {name}": f"checkpoint/{name}/adapter_model.safetensors" for name in _STEPS},
    "proposals": "proposals.jsonl",
}


def _after(folder: Path, *steps: str) -> None:
    """Raises: TrainingError naming the step that has to come before."""
    for step in steps:
        if not any(folder.glob(_RESULTS[step])):
            raise TrainingError(f"{folder} has no result of {step!r}: run that step first")
