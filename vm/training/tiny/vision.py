"""Teaches the vision tower to see: what is where, in which colour, moving which way, on pairs of frames."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from vm.config import PATCH_SIZE, PIXEL_FACTOR
from vm.model import vision
from vm.patches import fit_size, to_patches
from vm.scenes.clip import Clip
from vm.scenes.drawing import Painter
from vm.scenes.vocabulary import SEEDS
from vm.training.tiny.loop import Optimizer, Schedule, rank, train
from vm.training.tiny.sights import SIGHTS, cell_labels, sight_weights
from vm.training.tiny.sizes import HIDDEN, PIXELS, SPECIAL_TOKENS, base_config

TOWER = "tower.safetensors"
_PAIRS_PER_CLIP = 4
_CLIPS_PER_BATCH = 8
_SEEDS_PER_PROCESS = 1_000_000
_GAPS = (0.5, 0.5, 0.5, 0.5, 0.75, 1.0, 1.0, 2.0, 4.0)  # seconds between two frames, as the roles sample
_RARE = ("pick up", "put down", "meet", "open", "close")
_RARE_SHARE = 0.6


def shown(clip: Clip, numbers: Any, size: tuple[int, int]) -> Tensor:
    """uint8 (n, 3, *size): frames as a role would be shown them, without the detour of a file.

    Two clips in three are drawn at half their size, at a third of the cost.
    """
    look = clip.look
    if clip.seed % 3:
        look = replace(look, width=look.width // 2, height=look.height // 2)
    painter = Painter(clip.script, look)
    frames = []
    for number in numbers:
        drawn = Image.fromarray(painter.frame(int(number) / clip.frame_rate))
        frames.append(np.asarray(drawn.resize((size[1], size[0]), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def shown_size(clip: Clip) -> tuple[int, int]:
    """(height, width) in pixels at which a clip is shown."""
    return fit_size(clip.look.height, clip.look.width, **PIXELS)


def sightings(first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of frame pairs of one size, and what they show.

    Args:
        first: number of the first training seed to draw from; each is used once.
    """
    waiting: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
    for seed in range(first, len(SEEDS["train"])):
        clip = Clip(SEEDS["train"][seed], False)
        group = waiting.setdefault(shown_size(clip), [])
        group.append(_pairs(clip, random.Random(f"pairs {seed}")))  # noqa: S311
        if len(group) == _CLIPS_PER_BATCH:
            yield torch.cat([pair[0] for pair in group]), torch.cat([pair[1] for pair in group])
            group.clear()


def _pairs(clip: Clip, rng: random.Random) -> tuple[Tensor, Tensor]:
    size = shown_size(clip)
    rows, columns = size[0] // PIXEL_FACTOR, size[1] // PIXEL_FACTOR
    numbers, labels = [], []
    for _ in range(_PAIRS_PER_CLIP):
        gap = rng.choice(_GAPS) * clip.frame_rate
        first = min(_moment(clip, rng) * clip.frame_rate, clip.frame_count - 1 - gap)
        pair = [round(first), round(first + gap)]
        numbers += pair
        seen = [cell_labels(clip, number / clip.frame_rate, rows, columns) for number in pair]
        labels.append(torch.maximum(*seen))
    return shown(clip, numbers, size), torch.stack(labels)


def _moment(clip: Clip, rng: random.Random) -> float:
    """Seconds; often within one of the doings that are seldom seen."""
    rare = [event.span for event in clip.script.events if event.action in _RARE]
    if rare and rng.random() < _RARE_SHARE:
        span = rng.choice(rare)
        return rng.uniform(span.start, span.end)
    return rng.uniform(0, clip.duration)


class Watcher(nn.Module):
    """The tower, and a head that names what each token shows; the head is thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        config = base_config({token: i for i, token in enumerate(SPECIAL_TOKENS)})  # ids do not matter here
        self.tower = Qwen2VisionTransformerPretrainedModel(Qwen2VLConfig.from_dict(config).vision_config)
        self.norm = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(HIDDEN, SIGHTS)

    def forward(self, frames: Tensor) -> Tensor:
        """(T, H·W in tokens, SIGHTS) for uint8 (2·T, 3, height, width) frames."""
        rows, columns = frames.shape[2] // PATCH_SIZE, frames.shape[3] // PATCH_SIZE
        return self.head(self.norm(vision.encode(self.tower, to_patches(frames), rows, columns)))


def trained_tower(folder: Path) -> nn.Module:
    """The tower as `train_vision` left it in `folder`."""
    tower = Watcher().tower
    tower.load_state_dict(load_file(folder / TOWER))
    return tower.requires_grad_(False)


@torch.no_grad()
def _save_tower(tower: Any, folder: Path) -> None:
    """Its features are brought to a root mean square of 1 first: they are to stand among embeddings."""
    frames, _ = next(sightings(0))
    patches = to_patches(frames)
    rows, columns = frames.shape[2] // PATCH_SIZE, frames.shape[3] // PATCH_SIZE
    scale = 1 / vision.encode(tower, patches, rows, columns).square().mean().sqrt()
    for parameter in tower.merger.mlp[-1].parameters():
        parameter.mul_(scale)
    partial = folder / f"{TOWER}.partial"
    save_file(tower.state_dict(), partial)
    partial.replace(folder / TOWER)


def train_vision(folder: Path, steps: int) -> None:
    """Train the tower from nothing, or go on; `folder` gets its state and log."""
    torch.manual_seed(0)
    watcher = Watcher()
    schedule = Schedule(steps, matrix_rate=3e-3, other_rate=1.5e-3, falling=0.5)
    weights = sight_weights()
    optimizer = Optimizer(watcher, schedule, plain=("head",))

    def loss_of(batch: Any) -> dict[str, Tensor]:
        frames, labels = batch
        lost = binary_cross_entropy_with_logits(watcher(frames), labels, weights, reduction="none")
        return {"loss": lost.sum(-1).mean()}

    def batches(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        return sightings(rank() * _SEEDS_PER_PROCESS + step * _CLIPS_PER_BATCH)

    train(watcher, optimizer, schedule, batches, loss_of, folder)
    if rank() == 0:
        _save_tower(watcher.tower, folder)
