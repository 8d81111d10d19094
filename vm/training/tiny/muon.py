"""Muon (Jordan et al., 2024) in float32: torch's works in bfloat16, which most processors are slow at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic Newton-Schulz iteration
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: each matrix moves by the same amount in every direction.

    Args:
        params: matrices.
        lr: comparable to AdamW's (updates are scaled to the same root mean square).
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, weight: Tensor, gradient: Tensor, rate: float, momentum: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        kept = state["momentum"].lerp_(gradient, 1 - momentum)
        update = orthogonal(gradient.lerp(kept, momentum))
        weight.mul_(1 - rate * decay)
        weight.add_(update, alpha=-rate * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix whose singular values are about 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    states = matrix.T if tall else matrix
    states = states / (states.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = states @ states.T
        states = torch.addmm(states, torch.addmm(gram, gram, gram, beta=b, alpha=c), states, beta=a)
    return states.T if tall else states
