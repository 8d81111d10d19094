"""Keys and values of tokens already seen, and attention over several sequences at once.

Sequences are packed end to end into one batch row, so that a pass over five candidates, or one new
token, costs one run through the layers and no padding. Each sequence attends to its own past only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class KeyValues:
    """One sequence's keys and values in every layer, in buffers that are written in place.

    Growing by one token copies nothing, and going back to a shorter past (`truncate`) is free: that
    is how questions share the prefix of a video.
    """

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self._capacity = capacity
        self._layers: list[tuple[Tensor, Tensor]] = []

    @property
    def nbytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self._layers)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        self.length = min(self.length, length)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write (1, heads, n, dim) behind the past; views of past and new together.

        `length` moves on only with `advance`, once every layer has written.
        """
        end = self.length + keys.shape[2]
        if layer == len(self._layers):
            self._layers.append((self._buffer(keys, end), self._buffer(values, end)))
        elif end > self._layers[layer][0].shape[2]:
            old_keys, old_values = self._layers[layer]
            self._layers[layer] = (self._grown(old_keys, end), self._grown(old_values, end))
        for buffer, new in zip(self._layers[layer], (keys, values), strict=True):
            buffer[:, :, self.length : end] = new
        return tuple(buffer[:, :, :end] for buffer in self._layers[layer])  # type: ignore[return-value]

    def advance(self, count: int) -> None:
        self.length += count

    def _buffer(self, like: Tensor, needed: int) -> Tensor:
        return like.new_empty(*like.shape[:2], max(self._capacity, needed), like.shape[3])

    def _grown(self, old: Tensor, needed: int) -> Tensor:
        new = old.new_empty(*old.shape[:2], max(needed, old.shape[2] * 3 // 2), old.shape[3])
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


def packed_attention(
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    sequences: Sequence[tuple[KeyValues, int]],
) -> Tensor:
    """Causal attention of each packed sequence over its own past and itself.

    Args:
        layer: its number, from 0.
        query: (N, heads, dim); key, value: (N, key heads, dim), N the tokens of all sequences.
        sequences: each one's past and how many of the N tokens are its own, in order.

    Returns:
        (N, heads, dim).
    """
    outputs = []
    start = 0
    for past, count in sequences:
        own = [part[start : start + count].transpose(0, 1)[None] for part in (query, key, value)]
        outputs.append(_attend(own[0], *past.append(layer, own[1], own[2]), scaling))
        start += count
    mixed = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return mixed[0].transpose(0, 1)


def _attend(query: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """(1, heads, n, dim): n new tokens over L ≥ n in all, without copying keys for grouped heads."""
    count, total = query.shape[2], keys.shape[2]
    if count == total:
        return scaled_dot_product_attention(
            query, keys, values, is_causal=True, scale=scaling, enable_gqa=True
        )
    heads, groups = query.shape[1], query.shape[1] // keys.shape[1]
    folded = query.reshape(1, keys.shape[1], groups * count, -1)
    mask = None
    if count > 1:
        mask = torch.ones(count, total, dtype=torch.bool, device=query.device).tril(total - count)
        mask = mask.repeat(groups, 1)
    mixed = scaled_dot_product_attention(folded, keys, values, attn_mask=mask, scale=scaling)
    return mixed.reshape(1, heads, count, -1)
