import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from tests import forked
from vm.errors import CheckpointError, MissingRole, TensorMismatch
from vm.mind import VideoMind
from vm.model.backbone import Backbone, Passage
from vm.model.checkpoint import open_checkpoint
from vm.model.key_values import KeyValues

IDS = [10001, 42, 7, 911, 5, 1234, 99]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone(miniature: Path) -> Backbone:
    return Backbone(open_checkpoint(miniature), CPU, torch.float32)


def passage(ids: list[int], past: KeyValues | None = None) -> Passage:
    past = past or KeyValues(len(ids))
    return Passage(past, torch.tensor(ids), torch.arange(past.length, past.length + len(ids)).expand(3, -1))


def logits(backbone: Backbone, role: str | None = None, ids: list[int] = IDS) -> Tensor:
    """(n, vocabulary) after each token of a text."""
    with backbone.acting_as(role):
        return backbone.next_token_logits(backbone.read([passage(ids)])[0])


@torch.inference_mode()
def reference_logits(base: Path, adapter: Path | None = None) -> Tensor:
    """transformers' own model of the base, with the adapter multiplied out into its weights."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    if adapter:
        config = json.loads((adapter / "adapter_config.json").read_text())
        _merge(model, load_file(adapter / "adapter_model.safetensors"), config["lora_alpha"] / config["r"])
    return model.eval()(input_ids=torch.tensor([IDS])).logits[0]


def _merge(model: Any, tensors: dict[str, Tensor], scale: float) -> None:
    for name, down in tensors.items():
        place = name.removeprefix("base_model.model.model.")
        if place.endswith("lora_A.weight"):
            module = model.model.language_model.get_submodule(place.removesuffix(".lora_A.weight"))
            module.weight += scale * tensors[name.replace("lora_A", "lora_B")].float() @ down.float()
        elif name.endswith("embed_tokens.weight"):
            model.model.language_model.embed_tokens.weight.copy_(down)
        elif name.endswith("lm_head.weight"):
            model.lm_head.weight.copy_(down)


def test_the_bare_base_is_transformers_own_model(backbone: Backbone, miniature: Path) -> None:
    expected = reference_logits(miniature.parent / "base")
    torch.testing.assert_close(logits(backbone), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("role", ["planner", "grounder", "verifier"])
def test_a_role_is_the_base_with_its_adapter_multiplied_out(
    backbone: Backbone, miniature: Path, role: str
) -> None:
    expected = reference_logits(miniature.parent / "base", miniature / role)
    torch.testing.assert_close(logits(backbone, role), expected, atol=1e-4, rtol=1e-4)


def test_every_role_and_the_bare_base_differ(backbone: Backbone) -> None:
    voices = [logits(backbone, role) for role in (None, *backbone.roles)]
    for i, one in enumerate(voices):
        assert all((one - other).abs().max() > 1e-2 for other in voices[:i])


def test_an_inner_role_gives_way_to_the_outer_one(backbone: Backbone) -> None:
    alone = logits(backbone, "grounder")
    with backbone.acting_as("grounder"):
        logits(backbone, "verifier")
        logits(backbone, None)
        state = backbone.read([passage(IDS)])[0]
        assert torch.equal(backbone.next_token_logits(state), alone)


def test_an_exception_leaves_the_role_that_was_active_before(backbone: Backbone) -> None:
    bare = logits(backbone)
    with pytest.raises(RuntimeError, match="stop"), backbone.acting_as("planner"):
        raise RuntimeError("stop")
    assert torch.equal(backbone.next_token_logits(backbone.read([passage(IDS)])[0]), bare)


def test_a_role_the_checkpoint_lacks_is_missing_and_changes_nothing(backbone: Backbone) -> None:
    bare = logits(backbone)
    with pytest.raises(MissingRole, match="no answerer; it has planner, grounder, verifier"):
        backbone.acting_as("answerer").__enter__()
    assert torch.equal(backbone.next_token_logits(backbone.read([passage(IDS)])[0]), bare)


def test_switching_roles_copies_no_weights(backbone: Backbone) -> None:
    def places() -> dict[str, int]:
        return {name: weight.data_ptr() for name, weight in backbone._model.named_parameters()}

    before, nbytes = places(), backbone.nbytes
    for role in ("grounder", "planner", None, "verifier"):
        logits(backbone, role)
    assert places() == before
    assert backbone.nbytes == nbytes


def test_bytes_are_those_of_all_weight_files_once_in_float32(backbone: Backbone, miniature: Path) -> None:
    files = [*miniature.rglob("*.safetensors"), *(miniature.parent / "base").glob("*.safetensors")]
    assert backbone.nbytes == sum(4 * t.numel() for file in files for t in load_file(file).values())


def test_texts_read_together_or_piece_by_piece_give_the_same_states(backbone: Backbone) -> None:
    texts = [IDS, IDS[:3], IDS[::-1]]
    alone = [backbone.read([passage(text)])[0] for text in texts]
    together = backbone.read([passage(text) for text in texts])
    past = KeyValues(2)
    pieces = torch.cat([backbone.read([passage(ids, past)])[0] for ids in (IDS[:2], IDS[2:3], IDS[3:])])
    for one, other in [*zip(alone, together, strict=True), (alone[0], pieces)]:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_features_stand_where_the_video_tokens_are(backbone: Backbone) -> None:
    plain = backbone.read([passage([IDS[0], 5, IDS[1], 6])])[0]
    video = passage([IDS[0], backbone.video_id, IDS[1], backbone.video_id])
    shown = replace(video, features=backbone.embedding_and_head(None)[0][[5, 6]])
    torch.testing.assert_close(backbone.read([shown])[0], plain)


@pytest.mark.parametrize("limit", [1, 6])
def test_generation_chooses_what_reading_everything_anew_would(backbone: Backbone, limit: int) -> None:
    expected: list[int] = []
    while len(expected) < limit:
        expected.append(int(logits(backbone, "planner", [*IDS, *expected])[-1].argmax()))
    past = KeyValues(len(IDS))
    with backbone.acting_as("planner"):
        state = backbone.read([passage(IDS, past)])[0][-1]
        written = backbone.generate(past, state, len(IDS), limit)
        anew = backbone.read([passage([*IDS, *expected])])[0][len(IDS) - 1 : -1]
    assert not backbone.eos_ids.intersection(expected)
    assert written.ids == expected
    torch.testing.assert_close(written.states, anew, atol=1e-5, rtol=1e-5)


def test_generation_ends_before_the_end_token(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    past = KeyValues(16)
    state = backbone.read([passage(IDS, past)])[0][-1]
    first = backbone.generate(past, state, len(IDS), 1).ids[0]
    monkeypatch.setattr(backbone, "eos_ids", frozenset([first]))
    past.truncate(len(IDS))
    nothing = backbone.generate(past, state, len(IDS), 9)
    assert nothing.ids == []
    assert nothing.states.shape == (0, len(state))


def test_scores_that_are_no_numbers_are_the_checkpoints_fault(backbone: Backbone) -> None:
    with pytest.raises(CheckpointError, match="not finite"):
        backbone.next_token_logits(torch.full((1, 32), torch.nan))


def test_weights_are_held_in_the_dtype_asked_for_but_for_the_timestamp_decoder(miniature: Path) -> None:
    mind = VideoMind.load(miniature, dtype="bfloat16", device="cpu")
    held = mind.cast.backbone
    assert {weight.dtype for weight in held._model.parameters()} == {torch.bfloat16}
    assert held.decoder is not None
    assert {weight.dtype for weight in held.decoder.parameters()} == {torch.float32}
    assert logits(held, "grounder").dtype == torch.float32


@pytest.mark.parametrize("wrong", [{"dtype": "float8"}, {"device": "abacus"}, {"device": "cuda:99"}])
def test_a_device_or_dtype_that_is_not_there_is_named(miniature: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match=next(iter(wrong.values()))):
        VideoMind.load(miniature, **wrong)  # type: ignore[arg-type]


MEASURE = """
import torch
from vm.model.backbone import Backbone
from vm.model.checkpoint import open_checkpoint

def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

torch.set_num_threads(1)
before = kilobytes("VmRSS")
backbone = Backbone(open_checkpoint(checkpoint), torch.device("cpu"), getattr(torch, dtype))
told.send((kilobytes("VmHWM") - before) * 1024 / backbone.nbytes)
"""


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory: pytest.TempPathFactory, miniature: Path) -> Path:
    """A checkpoint without adapters on a base of 300 MB in bfloat16."""
    folder = tmp_path_factory.mktemp("large")
    config = Qwen2VLConfig(
        text_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": 48_000,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={"depth": 2, "embed_dim": 512, "hidden_size": 1024, "num_heads": 8},
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in Qwen2VLForConditionalGeneration(config).state_dict().items()}
    del shapes["lm_head.weight"]
    (folder / "base").mkdir()
    config.save_pretrained(folder / "base")
    save_file(
        {name: torch.full(shape, 0.01, dtype=torch.bfloat16) for name, shape in shapes.items()},
        folder / "base" / "model.safetensors",
    )
    for name in ("config.json", "generation_config.json", "roles.json"):
        (folder / name).write_bytes((miniature / name).read_bytes())
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_needs_little_memory_beside_the_weights(large_checkpoint: Path, dtype: str) -> None:
    told, end = forked.pipe()
    with told, end:  # a child begins with a peak of its own
        forked.process(MEASURE, {"checkpoint": large_checkpoint, "dtype": dtype, "told": end})
        end.close()
        assert 0.95 <= told.recv() <= 1.2


def test_a_role_may_know_tokens_its_base_does_not(root: Path) -> None:
    plain = Backbone(open_checkpoint(root / "checkpoint"), CPU, torch.float32)
    path = root / "checkpoint" / "grounder" / "adapter_model.safetensors"
    tensors = load_file(path)
    for name in ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"):
        tensors[name] = torch.cat((tensors[name], torch.full_like(tensors[name][:2], 0.5)))
    save_file(tensors, path)
    grown = Backbone(open_checkpoint(root / "checkpoint"), CPU, torch.float32)
    known = len(tensors[name]) - 2
    assert logits(grown, "grounder", [*IDS, known + 1]).shape[1] == known + 2
    torch.testing.assert_close(logits(grown, "grounder")[:, :known], logits(plain, "grounder"))
    torch.testing.assert_close(logits(grown, "planner"), logits(plain, "planner"))


def test_a_role_whose_embeddings_and_head_differ_in_length_is_refused(root: Path) -> None:
    path = root / "checkpoint" / "grounder" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = "base_model.model.lm_head.weight"
    tensors[name] = torch.cat((tensors[name], tensors[name][:2]))
    save_file(tensors, path)
    with pytest.raises(TensorMismatch, match="embed_tokens"):
        Backbone(open_checkpoint(root / "checkpoint"), CPU, torch.float32)


@pytest.mark.parametrize(
    ("weight", "is_the_towers"),
    [("visual.blocks.1.mlp.fc2.bias", True), ("model.layers.0.mlp.up_proj.weight", False)],
)
def test_the_vision_fingerprint_is_the_towers_alone(
    backbone: Backbone, root: Path, weight: str, is_the_towers: bool
) -> None:
    """Whatever becomes of adapters and language model."""
    shutil.rmtree(root / "checkpoint" / "verifier")
    path = root / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors[weight] = -tensors[weight]
    save_file(tensors, path)
    other = Backbone(open_checkpoint(root / "checkpoint"), CPU, torch.float32)
    assert (other.vision_fingerprint != backbone.vision_fingerprint) is is_the_towers
