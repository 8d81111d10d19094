"""The bundled checkpoint's recipe from its first step to its last, with as little of each as there can be."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vm import VideoMind
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS
from vm.training.tiny.steps import app

STEPS = (
    "tokenizer",
    "vision --steps 1",
    "bank --clips 4 --aside 2 --processes 1",
    "base --steps 1",
    "role planner --share 0.001",
    "role grounder --share 0.001",
    "proposals",
    "role verifier --share 0.001",
    "joint --share 0.001",
    "separate grounder --share 0.01",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("tiny")
    for step in STEPS:
        _run(step, folder)
    yield folder
    torch.set_num_threads(threads)


def _run(step: str, folder: Path, *more: str) -> None:
    CliRunner().invoke(app, [*step.split(), "--folder", str(folder), *more], catch_exceptions=False)


def test_what_is_packed_loads_at_once_and_plays_every_role(folder: Path, tmp_path: Path) -> None:
    _run("pack", folder, "--out", str(tmp_path / "packed"))
    mind = VideoMind.load(tmp_path / "packed", device="cpu")

    assert set(mind.cast.backbone.roles) == {"planner", "grounder", "verifier"}
    result = mind.ask(
        Clip(SEEDS["test"][0], False, 10.0).write(tmp_path), "When does the car stop?", "ground-answer"
    )
    assert result.moments
    assert result.answer is not None


def test_a_finished_step_is_not_done_again(folder: Path) -> None:
    weights = [
        folder / "vision" / "tower.safetensors",
        folder / "base" / "base" / "model.safetensors",
        folder / "checkpoint" / "grounder" / "adapter_model.safetensors",
        folder / "proposals.jsonl",
    ]
    before = [path.read_bytes() for path in weights]
    for step in STEPS[:7]:
        _run(step, folder)

    assert [path.read_bytes() for path in weights] == before


def test_one_adapter_for_all_roles_is_written_as_each_of_them(folder: Path) -> None:
    mind = VideoMind.load(folder / "joint", device="cpu")

    assert set(mind.cast.backbone.roles) == {"planner", "grounder", "verifier"}
    planner, grounder = (
        (folder / "joint" / role / "adapter_model.safetensors").read_bytes()
        for role in ("planner", "grounder")
    )
    assert planner == grounder


def test_a_model_of_its_own_brings_its_base(folder: Path) -> None:
    assert VideoMind.load(folder / "begun", device="cpu").cast.backbone.roles == ()
    mind = VideoMind.load(folder / "separate-grounder", device="cpu")

    assert mind.cast.backbone.roles == ("grounder",)
    shared = (folder / "base" / "base" / "model.safetensors").read_bytes()
    assert (folder / "separate-grounder" / "base" / "model.safetensors").read_bytes() != shared
