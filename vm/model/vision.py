"""Vision once: patches to features, attending within a temporal patch only.

That is what Qwen2-VL's vision tower computes (the published stack reaches it by masking attention over
all frames at once, hence the cost). A patch's features depend on nothing but its own two frames, so
they are shared by every role, question and candidate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

from vm.config import MERGE_SIZE

# Patches that go through the tower together: enough to keep the processor busy, small enough for its caches.
_BATCH_PATCHES = 8192


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
    batch = max(1, _BATCH_PATCHES // (rows * columns))
    return torch.cat([_encode_batch(tower, part, rotary) for part in patches.split(batch)])


def _rotary(tower: Any, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (H·W, dim) each, in the order of the patches (2×2 groups together)."""
    row = torch.arange(rows, device=device).view(-1, MERGE_SIZE, 1, 1).expand(-1, -1, columns // MERGE_SIZE, MERGE_SIZE)
    column = torch.arange(columns, device=device).view(1, 1, -1, MERGE_SIZE).expand(rows // MERGE_SIZE, MERGE_SIZE, -1, -1)
    order = [grid.permute(0, 2, 1, 3).flatten() for grid in (row, column)]
    cosine, sine = tower.rotary_pos_emb(torch.empty(0, device=device), torch.stack(order, dim=1))
    return cosine, sine


def _encode_batch(tower: Any, patches: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    states = nn.functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
    for block in tower.blocks:
        states = states + _attend(block.attn, block.norm1(states), rotary)
        states = states + block.mlp(block.norm2(states))
    return tower.merger(states).view(len(patches), patches.shape[1] // MERGE_SIZE**2, -1)


def _attend(attention: Any, states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    qkv = attention.qkv(states).unflatten(-1, (3, attention.num_heads, -1))
    query, key, value = qkv.unbind(2)
    query, key = apply_rotary_pos_emb_vision(query, key, *rotary)
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scaling)
    return attention.proj(mixed.transpose(1, 2).flatten(2))
