"""Muon (Jordan et al., 2024) in float32: torch's works in bfloat16, which most processors are slow at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as processes
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic Newton-Schulz iteration
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: each matrix moves by the same amount in every direction.

    Processes that train together share the work: each makes some of the updates, and gets the others'.

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
            weights = [weight for weight in group["params"] if weight.grad is not None]
            wanted = [self._direction(weight, group["momentum"]) for weight in weights]
            for weight, update in zip(weights, _orthogonal_together(wanted), strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)

    def _direction(self, weight: Tensor, momentum: float) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        assert weight.grad is not None
        kept = state["momentum"].lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(kept, momentum)


def _orthogonal_together(matrices: list[Tensor]) -> list[Tensor]:
    if not processes.is_initialized() or processes.get_world_size() == 1:
        return [orthogonal(matrix) for matrix in matrices]
    count, rank = processes.get_world_size(), processes.get_rank()
    made = [orthogonal(m) if i % count == rank else torch.zeros_like(m) for i, m in enumerate(matrices)]
    flat = torch.cat([matrix.flatten() for matrix in made])
    processes.all_reduce(flat)
    return [part.view_as(m) for part, m in zip(flat.split([m.numel() for m in made]), made, strict=True)]


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
