"""Qwen2-VL's language model, run straight from its weights. Knows no prompts and no vocabulary.

Transformers builds the modules and PEFT puts the adapters in; for reading, their weights are gathered
once per role and applied here. A new token costs a fraction of what it costs through the modules,
whose checks and hooks outweigh the arithmetic, and changing the role is a matter of picking its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm
from transformers.activations import ACT2FN

from vm.model.key_values import KeyValues, packed_attention
from vm.model.positions import signed_sine, turn


@dataclass(frozen=True)
class Projection:
    """A linear layer, and a role's low-rank update of it: x W + b + scale · x down up."""

    weight: Tensor
    bias: Tensor | None
    down: Tensor | None = None
    up: Tensor | None = None
    scale: float = 1.0

    def __call__(self, states: Tensor) -> Tensor:
        projected = linear(states, self.weight, self.bias)
        if self.down is None or self.up is None:
            return projected
        return torch.addmm(projected, linear(states, self.down), self.up.T, alpha=self.scale)


@dataclass(frozen=True)
class Norm:
    """Root mean square normalisation."""

    weight: Tensor
    epsilon: float

    def __call__(self, states: Tensor) -> Tensor:
        return rms_norm(states, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True)
class Layer:
    """One layer's weights as one role has them."""

    before_attention: Norm
    query: Projection
    key: Projection
    value: Projection
    output: Projection
    before_feed_forward: Norm
    gate: Projection
    up: Projection
    down: Projection


class LanguageModel:
    """The layers of transformers' `Qwen2VLTextModel`, in any role.

    Args:
        model: that model, adapters injected.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        attention = model.layers[0].self_attn
        self._dim, self._scaling = attention.head_dim, attention.scaling
        self._activation: Callable[[Tensor], Tensor] = ACT2FN[model.config.hidden_act]
        self.final_norm = _norm(model.norm)

    def layers(self, role: str | None) -> tuple[Layer, ...]:
        """The weights to read with as `role`; None is the bare base."""
        return tuple(_layer(layer, role) for layer in self._model.layers)

    def read(
        self,
        layers: Sequence[Layer],
        states: Tensor,
        positions: Tensor,
        sequences: Sequence[tuple[KeyValues, int]],
    ) -> Tensor:
        """States before the last norm, (N, hidden).

        Args:
            states: (N, hidden), the embedded tokens of all sequences end to end.
            positions: (3, N) rotary positions.
            sequences: each one's past, which is extended, and how many of the N tokens are its own.
        """
        cosine, sine = self._model.rotary_emb(states, positions[:, None])
        rotary = cosine[0, :, None], signed_sine(sine[0, :, None])
        for number, layer in enumerate(layers):
            states = states + self._attend(number, layer, layer.before_attention(states), rotary, sequences)
            states = states + self._feed_forward(layer, layer.before_feed_forward(states))
        for past, count in sequences:
            past.advance(count)
        return states

    def _attend(
        self,
        number: int,
        layer: Layer,
        states: Tensor,
        rotary: tuple[Tensor, Tensor],
        sequences: Sequence[tuple[KeyValues, int]],
    ) -> Tensor:
        projections = (layer.query, layer.key, layer.value)
        query, key, value = (project(states).unflatten(-1, (-1, self._dim)) for project in projections)
        query, key = turn(query, *rotary), turn(key, *rotary)
        return layer.output(packed_attention(number, query, key, value, self._scaling, sequences).flatten(1))

    def _feed_forward(self, layer: Layer, states: Tensor) -> Tensor:
        return layer.down(self._activation(layer.gate(states)) * layer.up(states))


def _layer(layer: Any, role: str | None) -> Layer:
    attention, feed_forward = layer.self_attn, layer.mlp
    return Layer(
        before_attention=_norm(layer.input_layernorm),
        query=_projection(attention.q_proj, role),
        key=_projection(attention.k_proj, role),
        value=_projection(attention.v_proj, role),
        output=_projection(attention.o_proj, role),
        before_feed_forward=_norm(layer.post_attention_layernorm),
        gate=_projection(feed_forward.gate_proj, role),
        up=_projection(feed_forward.up_proj, role),
        down=_projection(feed_forward.down_proj, role),
    )


def _projection(module: nn.Module, role: str | None) -> Projection:
    base: Any = module.base_layer if isinstance(module, LoraLayer) else module
    if role is None or not isinstance(module, LoraLayer) or role not in module.lora_A:
        return Projection(base.weight, base.bias)
    down, up = module.lora_A[role].weight, module.lora_B[role].weight
    return Projection(base.weight, base.bias, down, up, module.scaling[role])


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)
