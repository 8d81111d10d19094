import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vm.errors import (
    CheckpointError,
    CheckpointNotFound,
    InvalidRoles,
    TensorMismatch,
    UnknownModelType,
    UnsafeWeights,
)
from vm.mind import VideoMind
from vm.model.backbone import Backbone
from vm.model.checkpoint import open_checkpoint
from vm.prompts import ROLES_FILE

CPU = torch.device("cpu")
REMOVED = object()
SECTIONS_TOO_WIDE = {"type": "mrope", "mrope_section": [2, 3, 4]}
SLIDING_WINDOWS = {"use_sliding_window": True, "max_window_layers": 0}


def load(root: Path) -> Backbone:
    return Backbone(open_checkpoint(root / "checkpoint", root / "base"), CPU, torch.float32)


def edit_json(path: Path, changes: dict[str, Any]) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not REMOVED}))


def edit_tensors(path: Path, changes: dict[str, Any]) -> None:
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not REMOVED}, path)


BASE = "base/model.safetensors"
INDEX = "base/model.safetensors.index.json"
DECODER = "checkpoint/pytorch_model.safetensors"
PLANNER = "checkpoint/planner/adapter_model.safetensors"
PLANNER_SETTINGS = "checkpoint/planner/adapter_config.json"
NORM = "model.norm.weight"
HEAD_BIAS = "base_model.model.class_head.module.1.bias"
PROJECTION = "base_model.model.vis_proj.1.weight"
QUERY_LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("file", "tensor", "value", "words"),
    [
        (BASE, NORM, torch.ones(31), r"model\.norm\.weight has shape \(31,\), expected \(32,\)"),
        (BASE, NORM, REMOVED, r"missing tensor model\.language_model\.norm\.weight"),
        (BASE, "extra", torch.ones(1), "unexpected tensor extra"),
        (
            DECODER,
            HEAD_BIAS,
            torch.ones(2),
            r"class_head\.module\.1\.bias has shape \(2,\), expected \(256,\)",
        ),
        (DECODER, HEAD_BIAS, REMOVED, r"missing tensor class_head\.module\.1\.bias"),
        (DECODER, "extra", torch.ones(1), "unexpected tensor extra"),
        (
            DECODER,
            PROJECTION,
            torch.ones(256, 64),
            r"vis_proj\.1\.weight has .* the base's states are 32 wide",
        ),
        (DECODER, PROJECTION, torch.ones(32), r"vis_proj\.1\.weight has shape \(32,\)"),
        (DECODER, PROJECTION, REMOVED, r"missing tensor vis_proj\.1\.weight"),
        (PLANNER, QUERY_LORA, torch.ones(4, 32), r"q_proj\.lora_A\.weight has .*, expected \(8, 32\)"),
        (PLANNER, QUERY_LORA, REMOVED, r"missing tensor .*layers\.0\.self_attn\.q_proj\.lora_A\.weight"),
        (PLANNER, "extra", torch.ones(1), "unexpected tensor extra"),
    ],
)
def test_tensors_must_be_exactly_the_expected_ones(
    root: Path, file: str, tensor: str, value: Any, words: str
) -> None:
    edit_tensors(root / file, {tensor: value})
    with pytest.raises(TensorMismatch, match=words) as caught:
        load(root)
    assert str(root / file) in str(caught.value)


@pytest.mark.parametrize("file", [BASE, DECODER, PLANNER])
@pytest.mark.parametrize("damage", ["cut short", "pickle"])
def test_weights_that_are_no_whole_safetensors_file_are_refused(root: Path, file: str, damage: str) -> None:
    path = root / file
    path.write_bytes(path.read_bytes()[:-1000] if damage == "cut short" else pickle.dumps({"weight": 1}))
    with pytest.raises(UnsafeWeights, match="not a whole safetensors file") as caught:
        load(root)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("file", [BASE, DECODER, PLANNER])
def test_a_pickle_is_never_read_in_place_of_weights(root: Path, file: str) -> None:
    path = root / file
    path.rename(path.with_name("weights.bin"))
    with pytest.raises(UnsafeWeights, match=r"pickle \(weights\.bin\)") as caught:
        load(root)
    assert str(path.parent) in str(caught.value)


@pytest.mark.parametrize(
    "file", [BASE, DECODER, PLANNER, PLANNER_SETTINGS, "base/config.json", "checkpoint/config.json"]
)
def test_a_missing_file_is_named(root: Path, file: str) -> None:
    (root / file).unlink()
    with pytest.raises(CheckpointNotFound, match="is the checkpoint complete") as caught:
        load(root)
    assert str(root / file) in str(caught.value)


@pytest.mark.parametrize(
    ("file", "text", "error", "words"),
    [
        ("checkpoint/config.json", "{'a': 1}", CheckpointError, "not JSON"),
        ("checkpoint/config.json", "[" * 200_000, CheckpointError, "not JSON"),
        ("checkpoint/config.json", "[]", CheckpointError, "JSON object"),
        ("checkpoint/roles.json", "{", InvalidRoles, "Expecting"),
        ("checkpoint/roles.json", "{}", InvalidRoles, "planner has no prompt"),
        (INDEX, '{"weight_map": {}}', CheckpointError, "no weight_map"),
        (INDEX, '{"weight_map": {"a": 1}}', CheckpointError, "no weight_map"),
    ],
)
def test_malformed_json_is_refused(
    root: Path, file: str, text: str, error: type[CheckpointError], words: str
) -> None:
    (root / file).write_text(text)
    with pytest.raises(error, match=words) as caught:
        load(root)
    assert str(root / file) in str(caught.value)


def test_a_shard_that_is_missing_is_named(root: Path) -> None:
    (root / INDEX).write_text('{"weight_map": {"a": "b.safetensors"}}')
    with pytest.raises(CheckpointNotFound, match=r"b\.safetensors is missing"):
        load(root)


def test_missing_roles_are_asked_for(root: Path) -> None:
    (root / "checkpoint/roles.json").unlink()
    with pytest.raises(InvalidRoles, match=r"roles\.json is missing.*import-checkpoint"):
        load(root)


@pytest.mark.parametrize(
    ("file", "changes", "error", "words"),
    [
        ("base/config.json", {"model_type": "qwen3_vl"}, UnknownModelType, "'qwen3_vl', expected 'qwen2_vl'"),
        ("base/config.json", {"num_attention_heads": 0}, CheckpointError, "describes no Qwen2-VL"),
        ("base/config.json", {"vision_config": 5}, CheckpointError, "describes no Qwen2-VL"),
        ("base/config.json", {"hidden_act": "loud"}, CheckpointError, "describes no Qwen2-VL: 'loud'"),
        ("base/config.json", {"rope_scaling": None}, CheckpointError, "mrope_section"),
        ("base/config.json", {"rope_scaling": SECTIONS_TOO_WIDE}, CheckpointError, "heads of width 16"),
        ("base/config.json", SLIDING_WINDOWS, CheckpointError, "sliding windows"),
        ("base/config.json", {"video_token_id": REMOVED}, CheckpointError, "video_token_id is None"),
        ("checkpoint/config.json", {"model_type": "qwen2_vl"}, UnknownModelType, "expected 'agent_qwen2_vl'"),
        ("checkpoint/generation_config.json", {"eos_token_id": {}}, CheckpointError, "eos_token_id is {}"),
        (PLANNER_SETTINGS, {"use_dora": True}, CheckpointError, "only plain LoRA"),
        (PLANNER_SETTINGS, {"peft_type": "IA3"}, CheckpointError, "only plain LoRA"),
        (PLANNER_SETTINGS, {"bias": "all"}, CheckpointError, "only plain LoRA"),
        (PLANNER_SETTINGS, {"target_modules": "all-linear"}, CheckpointError, "list of module names"),
        (PLANNER_SETTINGS, {"target_modules": ["elsewhere"]}, CheckpointError, "not found in the base"),
        (PLANNER_SETTINGS, {"r": REMOVED}, CheckpointError, "has no 'r'"),
        (PLANNER_SETTINGS, {"r": 0}, CheckpointError, "positive integer"),
        (PLANNER_SETTINGS, {"lora_alpha": "much"}, CheckpointError, "could not convert"),
        (PLANNER_SETTINGS, {"rank_pattern": {"(": 4}}, CheckpointError, "unterminated"),
    ],
)
def test_settings_that_cannot_be_run_are_refused(
    root: Path, file: str, changes: dict[str, Any], error: type[CheckpointError], words: str
) -> None:
    edit_json(root / file, changes)
    with pytest.raises(error, match=words) as caught:
        load(root)
    assert type(caught.value) is error
    assert str(root / file) in str(caught.value)


def test_a_base_with_more_layers_than_weights_lacks_them(root: Path) -> None:
    edit_json(root / "base/config.json", {"num_hidden_layers": 4})
    with pytest.raises(TensorMismatch, match=r"missing tensor model\.language_model\.layers\.3\."):
        load(root)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "checkpoint/config.json",
            {"reg_token_id": 10015},
            r"reg_token_id is 10015, but '<\|reg\|>' is token 10014",
        ),
        ("checkpoint/config.json", {"seg_e_token_id": REMOVED}, "seg_e_token_id is None"),
        ("base/config.json", {"video_token_id": 99_999_999}, "tokenizer.json has no token 99999999"),
        ("checkpoint/roles.json", {"special_tokens": {"reg": "two words"}}, "not a single token"),
        ("checkpoint/chat_template.json", {"chat_template": "{% for"}, "chat template does not work"),
        ("checkpoint/chat_template.json", {"chat_template": "{{ 1 / 0 }}"}, "chat template does not work"),
        ("checkpoint/chat_template.json", {"chat_template": "Hello"}, "no place for the video"),
    ],
)
def test_tokens_and_template_must_agree_with_the_tokenizer(
    root: Path, file: str, change: dict[str, Any], words: str
) -> None:
    edit_json(root / file, change)
    with pytest.raises(CheckpointError, match=words):
        VideoMind.load(root / "checkpoint", device="cpu")


def test_a_tokenizer_that_is_none_is_refused(root: Path) -> None:
    (root / "checkpoint/tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read as a tokenizer"):
        VideoMind.load(root / "checkpoint", device="cpu")


def test_no_checkpoint_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"nowhere is not a folder"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("base", [None, "no/such/base", "someone/Llama"])
def test_a_base_that_is_nowhere_is_asked_for(root: Path, base: str | None) -> None:
    shutil.rmtree(root / "base")
    edit_json(root / "checkpoint/config.json", {"base_model_path": "model_zoo/Llama"})
    with pytest.raises(CheckpointNotFound, match="--base"):
        open_checkpoint(root / "checkpoint", base)


@pytest.mark.parametrize("place", ["base", "checkpoint/base", "Qwen2-VL-tiny"])
def test_the_base_is_found_beside_or_in_the_checkpoint(root: Path, place: str) -> None:
    there = root / place
    (root / "base").rename(there)
    assert open_checkpoint(root / "checkpoint").base == there


def test_a_given_base_goes_before_the_one_beside(root: Path, miniature: Path) -> None:
    given = miniature.parent / "base"
    assert open_checkpoint(root / "checkpoint", given).base == given


def test_the_fingerprint_follows_contents_and_not_places(root: Path, miniature: Path) -> None:
    original = open_checkpoint(miniature).fingerprint
    assert open_checkpoint(root / "checkpoint").fingerprint == original
    assert len(bytes.fromhex(original)) == 32


@pytest.mark.parametrize("file", [BASE, DECODER, PLANNER])
def test_the_fingerprint_changes_with_any_weight(root: Path, file: str) -> None:
    before = open_checkpoint(root / "checkpoint").fingerprint
    with (root / file).open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)[0]
        weights.seek(-1, 2)
        weights.write(bytes([last ^ 1]))
    assert open_checkpoint(root / "checkpoint").fingerprint != before


def test_the_fingerprint_changes_with_a_prompt(root: Path) -> None:
    before = open_checkpoint(root / "checkpoint").fingerprint
    roles = root / "checkpoint/roles.json"
    roles.write_text(roles.read_text().replace("Find", "Seek"))
    assert open_checkpoint(root / "checkpoint").fingerprint != before


def test_a_role_of_ones_own_is_a_folder_and_an_entry_in_the_role_book(root: Path) -> None:
    checkpoint = root / "checkpoint"
    shutil.copytree(checkpoint / "planner", checkpoint / "narrator")
    assert "narrator" not in open_checkpoint(checkpoint).adapters
    book = json.loads((checkpoint / ROLES_FILE).read_text())
    book["roles"]["narrator"] = {"prompt": "Tell: '{}'"}
    (checkpoint / ROLES_FILE).write_text(json.dumps(book))
    assert open_checkpoint(checkpoint).adapters["narrator"] == checkpoint / "narrator"


KNOW = """
import sys
from vm.model.checkpoint import open_checkpoint
known = open_checkpoint(sys.argv[1])
print(known.fingerprint, sorted({"torch", "transformers", "peft"} & sys.modules.keys()))
"""


def test_a_checkpoint_is_known_without_the_model_libraries(miniature: Path) -> None:
    command = [sys.executable, "-c", KNOW, str(miniature)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == f"{open_checkpoint(miniature).fingerprint} []\n"
