"""Long training on few cores: one loop, which logs, saves now and then, and goes on where it was stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as processes
from torch import Tensor, nn

from vm.terminal import progress
from vm.training.tiny.muon import Muon

_LOG_EVERY = 20  # steps
_SAVE_EVERY = 200


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. `steps` and `warm_up` in optimiser steps."""

    steps: int
    matrix_rate: float = 2e-3
    other_rate: float = 2e-3
    warm_up: int = 100
    final: float = 0.03
    falling: float = 1.0

    def factor(self, step: int) -> float:
        """Warm-up, steady, then for the last `falling` part of the steps a half cosine down to `final`."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        first = max(self.warm_up, self.falls_from)
        done = min(1.0, max(0, step - first) / max(1, self.steps - first))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2

    @property
    def falls_from(self) -> int:
        """The step from which the rate falls."""
        return round(self.steps * (1 - self.falling))


class Optimizer:
    """Muon for the matrices inside, AdamW for all else (embeddings, norms, biases, heads)."""

    def __init__(self, model: nn.Module, schedule: Schedule, plain: tuple[str, ...]) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        inner = [p for name, p in named if p.ndim == 2 and not any(part in name for part in plain)]
        chosen = {id(p) for p in inner}
        rest = [p for _, p in named if id(p) not in chosen]
        self._schedule = schedule
        self._parts: list[torch.optim.Optimizer] = [
            Muon(inner, lr=schedule.matrix_rate),
            torch.optim.AdamW(rest, lr=schedule.other_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self._rates = (schedule.matrix_rate, schedule.other_rate)
        self._all = [*inner, *rest]

    def step(self, step: int) -> float:
        """Update, and forget the gradients. Returns their norm before it was cut to 1."""
        norm = nn.utils.clip_grad_norm_(self._all, 1.0)
        for part, rate in zip(self._parts, self._rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * self._schedule.factor(step)
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    schedule: Schedule,
    make_batches: Callable[[int], Iterator[object]],
    loss_of: Callable[[object], dict[str, Tensor]],
    folder: Path,
) -> None:
    """Run or go on until `schedule.steps`.

    Args:
        make_batches: the batches from a given step on.
        loss_of: named parts of the loss of a batch; their sum is what is minimised. Gradients are
            taken at once, so that it may itself call `backward` on parts (and return them detached).
        folder: gets `state.pt` and `log.jsonl`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start = _resume(model, optimizer, folder / "state.pt")
    batches, tally = make_batches(start), _Tally(start, schedule.steps, folder / "log.jsonl")
    with progress() as report:
        for step in range(start, schedule.steps):
            parts = loss_of(next(batches))
            total = sum(parts.values(), torch.tensor(0.0))
            if total.requires_grad:
                total.backward()
            _share_gradients(model)
            tally.add(parts, optimizer.step(step))
            last = step + 1 == schedule.steps
            if not _is_first():
                continue
            if (step + 1) % _LOG_EVERY == 0 or last:
                report(tally.log(), (step + 1) / schedule.steps)
            if (step + 1) % _SAVE_EVERY == 0 or last:
                _save(model, optimizer, step + 1, folder / "state.pt")
            if step + 1 == schedule.falls_from:
                # A longer run can go on from here.
                _save(model, optimizer, step + 1, folder / "steady.pt")


class _Tally:
    """Means of what was measured since the last line of the log."""

    def __init__(self, start: int, steps: int, path: Path) -> None:
        self._step, self._steps, self._path = start, steps, path
        self._begin()

    def _begin(self) -> None:
        self._sums: dict[str, float] = {}
        self._since, self._first = time.monotonic(), self._step

    def add(self, parts: Mapping[str, Tensor], norm: float) -> None:
        """One step's losses, and the norm of its gradient."""
        self._step += 1
        for name, value in {**parts, "norm": norm}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(torch.as_tensor(value).detach())

    def log(self) -> str:
        """Write a line, and begin anew. Returns how things stand, in words."""
        count = self._step - self._first
        pace = (time.monotonic() - self._since) / count
        left = (self._steps - self._step) * pace / 60
        line = {name: round(value / count, 4) for name, value in self._sums.items()}
        times = {"step": self._step, "seconds_per_step": round(pace, 3), "minutes_left": round(left, 1)}
        with self._path.open("a") as log:
            log.write(json.dumps({**times, **line}) + "\n")
        self._begin()
        return f"step {self._step} of {self._steps}, {left:.0f} min left"


def rank() -> int:
    """Which of the processes that train together this is (torchrun), from 0."""
    return processes.get_rank() if processes.is_initialized() else 0


def process_count() -> int:
    """How many train together."""
    return processes.get_world_size() if processes.is_initialized() else 1


def _is_first() -> bool:
    return rank() == 0


def _share_gradients(model: nn.Module) -> None:
    """Each process's mean becomes that of all."""
    if not processes.is_initialized():
        return
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:  # what one process did not use, others may have used
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in learning if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / processes.get_world_size()
    processes.all_reduce(flat)
    for gradient, shared in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(shared.view_as(gradient))


def _save(model: nn.Module, optimizer: Optimizer, step: int, path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, partial)
    partial.replace(path)


def _resume(model: nn.Module, optimizer: Optimizer, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
