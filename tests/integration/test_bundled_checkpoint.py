"""The checkpoint in this repository: what it is made of, what it can do, and that it answers unnamed.

The encoded clips are kept in pytest's cache, so that only the first run draws them.
"""

import json
import os
import tomllib
from importlib.resources import files
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from jsonschema import validate
from safetensors import safe_open

from tests import commands
from vm import VideoMind
from vm.bundled import BUNDLED_CHECKPOINT, BUNDLED_NOTICE
from vm.model.backbone import Passage
from vm.model.key_values import KeyValues
from vm.prompts import ROLES_FILE
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS

CLIPS = 20
"""How many clips of the test split are asked about; the first ones."""

LEAST_ROUTE = 0.97
LEAST_R1_AT_05 = 0.84
LEAST_MEAN_IOU = 0.755
LEAST_ACCURACY = 0.92
LEAST_GROUNDED_ACCURACY = 0.8
"""Bounds a little below what was measured, as shares: what falls under one of them has become worse."""

LEAST = {
    "Route": LEAST_ROUTE,
    "R1@0.5": LEAST_R1_AT_05,
    "mIoU": LEAST_MEAN_IOU,
    "Acc": LEAST_ACCURACY,
    "Acc (IoP ≥ 0.5)": LEAST_GROUNDED_ACCURACY,
}

MOST_BYTES = 25_000_000
ROLES = {"planner", "grounder", "verifier", "answerer"}
ROOT = Path(__file__).parents[2]
SCHEMA = json.loads(files("vm").joinpath("result.schema.json").read_text(encoding="utf-8"))
PATIENCE = 3600.0
"""Seconds after which the command counts as hung."""


def videomind(*arguments: object) -> CompletedProcess[str]:
    """Runs the command as a process of its own, to which the environment names no checkpoint."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIDEOMIND_")}
    return commands.start(*arguments, environment={**kept, "OMP_NUM_THREADS": "1"}).ended(PATIENCE)


@pytest.fixture(scope="module")
def contents() -> list[Path]:
    return sorted(path for path in BUNDLED_CHECKPOINT.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def mind() -> VideoMind:
    return VideoMind.load(device="cpu")


@pytest.fixture(scope="module")
def report(pytestconfig: pytest.Config) -> dict:
    clips = pytestconfig.cache.mkdir("bundled-checkpoint-clips")
    ended = videomind(
        *("evaluate", "scenes", "--clips", CLIPS, "--held-out-clips", 0, "--no-baselines"),
        *("--workdir", clips, "--json"),
    )
    assert (ended.returncode, ended.stderr) == (0, f"videomind: {BUNDLED_NOTICE}\n")
    return json.loads(ended.stdout)


def test_it_is_small_and_all_of_it_is_installed_with_the_package(contents: list[Path]):
    assert sum(path.stat().st_size for path in contents) <= MOST_BYTES
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["vm"]
    assert {ROOT / "vm" / "checkpoints" / "tiny" / ROLES_FILE, *contents} <= {
        path for pattern in patterns for path in (ROOT / "vm").glob(pattern)
    }


def test_its_weights_are_safetensors_in_half_precision_and_the_rest_is_text(contents: list[Path]):
    weights = [path for path in contents if path.suffix == ".safetensors"]
    for path in weights:
        with safe_open(path, framework="pt") as file:
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert len(weights) == 5
    for path in set(contents) - set(weights):
        assert "\0" not in path.read_text(encoding="utf-8")


def test_all_roles_are_there_as_adapters_over_one_base(mind: VideoMind):
    book = json.loads((BUNDLED_CHECKPOINT / ROLES_FILE).read_text(encoding="utf-8"))
    assert book["roles"].keys() == ROLES
    assert {*mind.cast.backbone.roles, "answerer"} == ROLES
    for role in mind.cast.backbone.roles:
        with safe_open(BUNDLED_CHECKPOINT / role / "adapter_model.safetensors", framework="pt") as file:
            names = [*file.keys()]
        whole = [name for name in names if ".lora_A." not in name and ".lora_B." not in name]
        assert len(whole) < len(names)
        assert all(name.endswith(("embed_tokens.weight", "lm_head.weight")) for name in whole)


def test_every_adapter_changes_what_the_base_says(mind: VideoMind):
    ids = torch.tensor(mind.cast.chat.chat("What happens?").after)
    said = []
    for role in (None, *mind.cast.backbone.roles):
        with mind.cast.backbone.acting_as(role):
            passage = Passage(KeyValues(len(ids)), ids, torch.arange(len(ids)).expand(3, -1))
            said.append(mind.cast.backbone.next_token_logits(mind.cast.backbone.read([passage])[0])[-1])
    for number, one in enumerate(said):
        for other in said[:number]:
            assert (one - other).abs().max() > 0.1


@pytest.mark.parametrize("figure", LEAST)
def test_it_is_as_good_as_it_was(report: dict, figure: str):
    assert (report["videos"], report["failures"]) == (CLIPS, {"chain": 0})
    assert report["figures"]["all"]["chain"][figure]["value"] >= LEAST[figure]


def test_a_question_is_answered_where_no_checkpoint_is_named(tmp_path: Path):
    clip = Clip(SEEDS["test"][0], False, 30.0)
    asked = next(question for question in clip.questions if question.mode == "ground-answer")
    options = [part for option in asked.options for part in ("--option", option)]
    ended = videomind("ask", clip.write(tmp_path), asked.question, *options, "--json")
    assert (ended.returncode, ended.stderr) == (0, f"videomind: {BUNDLED_NOTICE}\n")
    result = json.loads(ended.stdout)
    validate(result, SCHEMA)
    assert result["video"]["duration"] == pytest.approx(30.0, abs=0.2)
    assert result["answer"]["text"] in asked.options
