"""Vision once: patches to features, attending within a temporal patch only.

That is what Qwen2-VL's vision tower computes (the published stack reaches it by masking attention over
all frames at once, hence the cost). A patch's features depend on nothing but its own two frames, so
they are shared by every role, question and candidate.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from vm.config import MERGE_SIZE
from vm.model.positions import signed_sine, turn


def encode(tower: Any, patches: Tensor, rows: int, columns: int) -> Tensor:
    """Features of the tokens of each temporal patch.

    Args:
        tower: transformers' Qwen2-VL vision model.
        patches: (T, H·W, 1176), in the tower's dtype and on its device.
        rows, columns: H and W, in patches.

    Returns:
        (T, H·W / 4, width of the language model).
    """
    rotary = _rotary(tower, rows, columns, patches.device)
    states = nn.functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
    for block in tower.blocks:
        states = states + _attend(block.attn, block.norm1(states), rotary)
        states = states + block.mlp(block.norm2(states))
    return tower.merger(states).view(len(patches), patches.shape[1] // MERGE_SIZE**2, -1)


def fingerprint(tower: Any) -> str:
    """What features depend on besides the patches, as a sha256 in hexadecimal.

    It is over the tower's settings, its weights as they are held, and the kind of device they are on.
    """
    settings = {k: v for k, v in tower.config.to_dict().items() if k != "transformers_version"}
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in tower.state_dict().items():
        total.update(f"{name} {weight.dtype} {tuple(weight.shape)} {weight.device.type}".encode())
        total.update(weight.cpu().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def _rotary(tower: Any, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine, (H·W, 1, 1, dim) each, in the order of the patches (2×2 groups together).

    In float32, and so the turning, whatever the weights are held in.
    """
    row = torch.arange(rows, device=device).view(-1, MERGE_SIZE, 1, 1)
    column = torch.arange(columns, device=device).view(1, 1, -1, MERGE_SIZE)
    grids = torch.broadcast_tensors(row, column)
    order = torch.stack([grid.transpose(1, 2).flatten() for grid in grids], dim=1)
    cosine, sine = tower.rotary_pos_emb(torch.empty(0, device=device), order)
    return cosine[:, None, None], signed_sine(sine)[:, None, None]


def _attend(attention: Any, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    qkv = attention.qkv(states).unflatten(-1, (3, attention.num_heads, -1))
    query, key = turn(qkv[:, :, :2], *rotary).unbind(2)
    query, key, value = (part.transpose(1, 2) for part in (query, key, qkv[:, :, 2]))
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return attention.proj(mixed.transpose(1, 2).flatten(2))
