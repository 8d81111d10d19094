import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration

from vm.errors import MissingRole, TensorMismatch
from vm.mind import VideoMind
from vm.model.backbone import Backbone, Passage
from vm.model.checkpoint import open_checkpoint
from vm.model.key_values import KeyValues

DECODER = "checkpoint/pytorch_model.safetensors"
PLANNER = "checkpoint/planner/adapter_model.safetensors"
LAYER_0_Q = "model.layers.0.self_attn.q_proj"


def load(root: Path) -> Backbone:
    return Backbone(open_checkpoint(root / "checkpoint"), torch.device("cpu"), torch.float32)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def logits(backbone: Backbone, role: str | None = None) -> Tensor:
    """After a text with a video of two frames in it."""
    ids = [10009, 10013, 10010, 42, 7]
    patches = torch.randn(1, 4, 1176, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(len(ids)).expand(3, -1)
    passage = Passage(KeyValues(8), torch.tensor(ids), positions, backbone.encode(patches, 2, 2)[0])
    with backbone.acting_as(role):
        return backbone.next_token_logits(backbone.read([passage])[0])


@pytest.fixture(scope="module")
def expected_logits(miniature: Path) -> dict[str | None, Tensor]:
    backbone = Backbone(open_checkpoint(miniature), torch.device("cpu"), torch.float32)
    return {role: logits(backbone, role) for role in (None, *backbone.roles)}


def rewritten(root: Path, **options: Any) -> None:
    """The base as the installed transformers writes it."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(root / "base")
    (root / "base/model.safetensors").unlink()
    model.save_pretrained(root / "base", **options)


def test_a_base_as_transformers_writes_it_today_gives_the_same_numbers(
    root: Path, expected_logits: dict[str | None, Tensor]
) -> None:
    rewritten(root)
    assert "text_config" in json.loads((root / "base/config.json").read_text())
    backbone = load(root)
    for role, expected in expected_logits.items():
        assert torch.equal(logits(backbone, role), expected)


def test_a_base_in_several_files_gives_the_same_numbers(
    root: Path, expected_logits: dict[str | None, Tensor]
) -> None:
    rewritten(root, max_shard_size="200KB")
    assert len(list((root / "base").glob("*.safetensors"))) > 1
    assert torch.equal(logits(load(root)), expected_logits[None])


@pytest.mark.parametrize("written_by", ["4.45", "5"])
def test_an_untied_base_predicts_with_its_own_head(
    root: Path, expected_logits: dict[str | None, Tensor], written_by: str
) -> None:
    head = torch.randn(10048, 32, generator=torch.Generator().manual_seed(1)).half()
    edit_json(root / "base/config.json", tie_word_embeddings=False)
    weights = root / "base/model.safetensors"
    save_file(load_file(weights) | {"lm_head.weight": head}, weights)
    if written_by == "5":
        rewritten(root)
    backbone = load(root)
    bare = logits(backbone)
    assert not torch.allclose(bare, expected_logits[None], atol=1e-2)
    # The grounder has its own head; the planner, which has none, speaks with the base's.
    torch.testing.assert_close(logits(backbone, "grounder"), expected_logits["grounder"])
    assert not torch.allclose(logits(backbone, "planner"), expected_logits["planner"], atol=1e-2)
    with_own_head = VideoMind.load(root / "checkpoint", device="cpu").cast.backbone
    assert torch.equal(logits(with_own_head), bare)


def test_an_untied_base_without_its_head_is_refused(root: Path) -> None:
    edit_json(root / "base/config.json", tie_word_embeddings=False)
    with pytest.raises(TensorMismatch, match=r"missing tensor lm_head\.weight"):
        load(root)


def rewrite_planner(root: Path, targets: list[str], tensors: dict[str, Tensor]) -> None:
    edit_json(root / "checkpoint/planner/adapter_config.json", target_modules=targets)
    save_file(tensors, root / PLANNER)


def test_an_adapter_that_names_modules_as_today_gives_the_same_numbers(
    root: Path, expected_logits: dict[str | None, Tensor]
) -> None:
    def today(name: str) -> str:
        return name.replace("model.layers", "model.language_model.layers")

    settings = json.loads((root / "checkpoint/planner/adapter_config.json").read_text())
    tensors = {today(name): tensor for name, tensor in load_file(root / PLANNER).items()}
    rewrite_planner(root, [today(name) for name in settings["target_modules"]], tensors)
    assert torch.equal(logits(load(root), "planner"), expected_logits["planner"])


def test_an_adapter_may_touch_fewer_modules_than_the_others(
    root: Path, expected_logits: dict[str | None, Tensor]
) -> None:
    tensors = {name: tensor for name, tensor in load_file(root / PLANNER).items() if LAYER_0_Q in name}
    rewrite_planner(root, [LAYER_0_Q], tensors)
    backbone = load(root)
    assert torch.equal(logits(backbone, "grounder"), expected_logits["grounder"])
    assert not torch.equal(logits(backbone, "planner"), expected_logits["planner"])
    assert not torch.equal(logits(backbone, "planner"), expected_logits[None])


@pytest.mark.parametrize("absent", ["planner", "verifier"])
def test_a_checkpoint_runs_without_planner_or_verifier(root: Path, short_video: Path, absent: str) -> None:
    shutil.rmtree(root / "checkpoint" / absent)
    mind = VideoMind.load(root / "checkpoint", device="cpu")
    result = mind.ask(short_video, "When does it move?")
    assert absent not in mind.cast.backbone.roles
    assert absent not in result.seconds
    assert result.answer
    verified = [candidate.verifier_score is not None for candidate in result.candidates]
    assert verified
    assert all(verified) == (absent != "verifier")


def test_without_a_grounder_grounding_is_refused_and_answering_works(root: Path, short_video: Path) -> None:
    shutil.rmtree(root / "checkpoint/grounder")
    (root / DECODER).unlink()
    mind = VideoMind.load(root / "checkpoint", device="cpu")
    assert mind.ask(short_video, "What moves?", mode="answer").answer
    with pytest.raises(MissingRole, match="no grounder"):
        mind.ask(short_video, "When does it move?", mode="ground")


def test_an_answerer_of_its_own_answers(root: Path, short_video: Path) -> None:
    bare = VideoMind.load(root / "checkpoint", device="cpu").ask(short_video, "What moves?", mode="answer")
    answerer = root / "checkpoint/answerer"
    shutil.copytree(root / "checkpoint/planner", answerer)
    loud = {name: 20 * tensor for name, tensor in load_file(root / PLANNER).items()}
    save_file(loud, answerer / "adapter_model.safetensors")
    mind = VideoMind.load(root / "checkpoint", device="cpu")
    own = mind.ask(short_video, "What moves?", mode="answer")
    assert "answerer" in mind.cast.backbone.roles
    assert bare.answer
    assert own.answer
    assert own.answer.text != bare.answer.text
    assert own.fingerprint != bare.fingerprint
