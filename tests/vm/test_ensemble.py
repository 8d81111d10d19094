"""Roles that each run on a model of their own."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from vm import Result, VideoMind
from vm.ensemble import combine
from vm.errors import CheckpointError, MissingRole

ROLES = ("planner", "grounder", "verifier")
QUESTION = "Why did the man appear?"

Split = Callable[..., VideoMind]


@pytest.fixture
def split(tmp_path: Path, miniature: Path) -> Split:
    """Load a checkpoint that has one of the miniature's roles, or none, on a base of its own."""

    def load(role: str | None, damaged: str | None = None) -> VideoMind:
        folder = tmp_path / f"{role}-{damaged}"
        others = shutil.ignore_patterns(*(other for other in ROLES if other != role))
        shutil.copytree(miniature, folder, ignore=others)
        shutil.copytree(miniature.parent / "base", folder / "base")
        if damaged:
            weights = folder / "base" / "model.safetensors"
            tensors = load_file(weights)
            tensors[damaged] = -tensors[damaged]
            save_file(tensors, weights, metadata={"format": "pt"})
        return VideoMind.load(folder, device="cpu")

    return load


def ask(mind: VideoMind, video: Path) -> Result:
    """Without what differs from run to run."""
    return replace(mind.ask(video, QUESTION, mode="ground-answer"), seconds={}, fingerprint="")


def test_three_models_alike_answer_as_one_base_with_three_adapters(
    split: Split, mind: VideoMind, short_video: Path
) -> None:
    minds = [split(role) for role in ROLES]
    together = combine(minds)
    assert ask(together, short_video) == ask(mind, short_video)
    planned = mind.ask(short_video, QUESTION).plan
    assert together.ask(short_video, QUESTION).plan == planned
    assert together.cast.backbone.nbytes == sum(one.cast.backbone.nbytes for one in minds)


@pytest.mark.parametrize("weight", ["model.layers.0.mlp.up_proj.weight", "visual.merger.mlp.2.weight"])
def test_a_role_sees_and_reads_with_its_own_model_alone(
    split: Split, mind: VideoMind, short_video: Path, weight: str
) -> None:
    """A damaged verifier leaves candidates and answer as they were."""
    together = combine([split("planner"), split("grounder"), split("verifier", damaged=weight)])
    found, right = ask(together, short_video), ask(mind, short_video)
    assert [c.span for c in found.candidates] == [c.span for c in right.candidates]
    assert [c.confidence for c in found.candidates] == [c.confidence for c in right.candidates]
    assert [c.verifier_score for c in found.candidates] != [c.verifier_score for c in right.candidates]


def test_what_no_model_was_trained_for_is_done_by_the_first_ones_base(
    split: Split, mind: VideoMind, short_video: Path
) -> None:
    """The planner's own model, were it to answer, would say something else."""
    planner = split("planner", damaged="model.layers.0.mlp.up_proj.weight")
    together = combine([split(None), planner, split("grounder"), split("verifier")])
    assert together.cast.backbone.roles == ROLES
    assert ask(together, short_video) == ask(mind, short_video)


def test_what_one_tower_made_of_a_view_is_not_passed_off_as_anothers(split: Split, short_video: Path) -> None:
    together = combine([split("planner"), split("verifier", damaged="visual.merger.mlp.2.weight")])
    with together.open(short_video) as watched:
        footage, seen = watched._footage, []
        view = footage.view(together.cast.settings("planner"))
        for role in ("planner", "verifier", "planner"):
            with together.cast.playing(role, footage):
                seen.append(footage.features([view])[0])
    assert seen[0].equal(seen[2])
    assert not seen[0].allclose(seen[1])


def test_who_acted_before_acts_again(split: Split) -> None:
    backbone = combine([split("planner"), split("grounder")]).cast.backbone
    with backbone.acting_as("grounder"):
        with pytest.raises(MissingRole, match="no checkpoint has a verifier"), backbone.acting_as("verifier"):
            pass
        with backbone.acting_as("planner"):
            assert backbone.tower == 0
        assert backbone.tower == 1
    assert backbone.tower == 0


def test_a_role_must_have_one_owner_and_all_one_tokenizer(split: Split, mind: VideoMind) -> None:
    planner = split("planner")
    with pytest.raises(CheckpointError, match="two of the checkpoints to combine have a planner"):
        combine([planner, mind])
    other = VideoMind(replace(planner.cast, yes=0), "f00", planner.markers)
    with pytest.raises(CheckpointError, match="share one tokenizer"):
        combine([split("grounder"), other])
