"""A student's weights under the names in which checkpoints are published. Writes no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from vm.model.weights import publish, publish_adapted
from vm.training.start import TARGETS
from vm.training.student import Student

_PLACE = "model.language_model"


def adapter(student: Student) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter in force: its tensors, and its settings as PEFT writes them.

    A student without LoRA gets one that changes nothing.
    """
    updates = _updates(student.text_model) or _no_updates(student.text_model)
    own = _own_embeddings(student)
    tensors = {f"{name}.{part}.weight": w for name, u in updates.items() for part, w in u.parts.items()}
    return _published(tensors | own), _settings(updates, bool(own))


def decoder_tensors(decoder: nn.Module) -> dict[str, Tensor]:
    return _published(dict(decoder.named_parameters()))


def base_tensors(student: Student, visual: nn.Module) -> dict[str, Tensor]:
    """The whole language model with its vision tower; a head that is the embedding is not named again."""
    tensors = {f"{_PLACE}.{name}": weight for name, weight in student.text_model.named_parameters()}
    tensors |= {f"model.visual.{name}": weight for name, weight in visual.named_parameters()}
    if student.head.weight is not student.text_model.embed_tokens.weight:
        tensors["lm_head.weight"] = student.head.weight
    return {publish(name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class _Update:
    """The low-rank update of one layer: scale · up down."""

    down: Tensor
    up: Tensor
    scale: float
    dropout: float

    @classmethod
    def of(cls, layer: Any) -> _Update:
        (name,) = layer.active_adapters
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        return cls(down, up, layer.scaling[name], getattr(layer.lora_dropout[name], "p", 0.0))

    @property
    def parts(self) -> dict[str, Tensor]:
        return {"lora_A": self.down, "lora_B": self.up}

    @property
    def rank(self) -> int:
        return len(self.down)

    @property
    def alpha(self) -> float:
        return self.scale * self.rank


def _updates(text_model: nn.Module) -> dict[str, _Update]:
    """By today's names of the layers."""
    return {
        f"{_PLACE}.{name}": _Update.of(layer)
        for name, layer in text_model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def _no_updates(text_model: nn.Module) -> dict[str, _Update]:
    return {
        f"{_PLACE}.{name}": _Update(
            layer.weight.new_zeros(1, layer.weight.shape[1]),
            layer.weight.new_zeros(len(layer.weight), 1),
            1.0,
            0.0,
        )
        for name, layer in text_model.named_modules()
        if isinstance(layer, nn.Linear) and re.fullmatch(TARGETS, name)
    }


def _own_embeddings(student: Student) -> dict[str, Tensor]:
    if not student.own_embeddings:
        return {}
    embedding = student.text_model.embed_tokens.weight
    return {f"{_PLACE}.embed_tokens.weight": embedding, "lm_head.weight": student.head.weight}


def _settings(updates: Mapping[str, _Update], own_embeddings: bool) -> dict[str, Any]:
    """As PEFT writes it; layers by their published names."""
    named = {publish(name): update for name, update in updates.items()}
    usual = next(iter(named.values()))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": usual.rank,
        "lora_alpha": usual.alpha,
        "lora_dropout": usual.dropout,
        "rank_pattern": {name: u.rank for name, u in named.items() if u.rank != usual.rank},
        "alpha_pattern": {name: u.alpha for name, u in named.items() if u.alpha != usual.alpha},
        "bias": "none",
        "inference_mode": True,
        "modules_to_save": ["embed_tokens", "lm_head"] if own_embeddings else None,
        "target_modules": sorted(named),
    }


def _published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {publish_adapted(name): tensor for name, tensor in tensors.items()}
