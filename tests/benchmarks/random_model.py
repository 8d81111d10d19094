"""A random-weight base and checkpoint of realistic proportions (about 100 M parameters, 40 % vision)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vm.model.timestamp_decoder import TimestampDecoder

PARITY = Path(__file__).parent.parent / "parity"
WIDTH, LAYERS, RANK = 640, 8, 64


def make_random_model(folder: Path) -> Path:
    """Write base and checkpoint below `folder` unless they are there; returns the checkpoint's folder."""
    checkpoint = folder / "checkpoint"
    if (checkpoint / "roles.json").is_file():
        return checkpoint
    torch.manual_seed(0)
    config = _base_config()
    _write_base(folder / "base", config)
    shutil.copytree(
        PARITY / "checkpoint", checkpoint, ignore=shutil.ignore_patterns("*.safetensors", "roles.json")
    )
    settings = json.loads((checkpoint / "config.json").read_text()) | config
    (checkpoint / "config.json").write_text(json.dumps(settings | {"model_type": "agent_qwen2_vl"}))
    for role in ("planner", "grounder", "verifier"):
        _write_adapter(checkpoint / role, config["vocab_size"], role != "planner")
    decoder = TimestampDecoder(WIDTH).state_dict()
    save_file(
        {f"base_model.model.{n}": t.half() for n, t in decoder.items()},
        checkpoint / "pytorch_model.safetensors",
    )
    roles = json.loads((PARITY / "checkpoint" / "roles.json").read_text())
    for role in ("planner", "grounder", "verifier", "answerer"):
        roles["roles"].setdefault(role, {})["max_new_tokens"] = 32
    (checkpoint / "roles.json").write_text(json.dumps(roles))
    return checkpoint


def _base_config() -> dict:
    config = json.loads((PARITY / "base" / "config.json").read_text())
    config |= {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS}
    config |= {"num_attention_heads": 10, "num_key_value_heads": 2, "max_window_layers": LAYERS}
    config["rope_scaling"] = {"type": "mrope", "mrope_section": [8, 12, 12]}
    config["vision_config"] |= {
        "depth": 11,
        "embed_dim": 512,
        "num_heads": 8,
        "mlp_ratio": 4,
        "hidden_size": WIDTH,
    }
    return config


def _write_base(folder: Path, config: dict) -> None:
    shutil.copytree(PARITY / "base", folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(dict(config)))
    total = sum(p.numel() for p in model.parameters())
    vision = sum(p.numel() for p in model.model.visual.parameters())
    print(f"random model: {total / 1e6:.0f} M parameters, vision {vision / total:.0%}")
    tensors = {n: t.half().contiguous() for n, t in model.state_dict().items() if n != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors")


def _write_adapter(folder: Path, vocabulary: int, own_heads: bool) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    modules = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(LAYERS) for p in "qkvo"]
    config |= {"r": RANK, "lora_alpha": RANK, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for module in modules:
        outputs = WIDTH // 5 if module.endswith(("k_proj", "v_proj")) else WIDTH
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(RANK, WIDTH).half() * 0.02
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(outputs, RANK).half() * 0.02
    if own_heads:
        tensors["base_model.model.model.embed_tokens.weight"] = torch.randn(vocabulary, WIDTH).half() * 0.02
        tensors["base_model.model.lm_head.weight"] = torch.randn(vocabulary, WIDTH).half() * 0.02
    save_file(tensors, folder / "adapter_model.safetensors")
