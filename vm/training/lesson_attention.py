"""Attention over a lesson: a video's tokens among themselves, then each example's to the video and its own.

Taken apart, since the first needs no mask and half the work. transformers' layers call it by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

LESSON_ATTENTION = "lesson"


def lesson_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Args: query, key, value: (1, heads, N, dim); visible: (E, N) bool, what each of the last E tokens sees.

    Those before, or all where it is None, see what comes before them.

    Returns:
        (1, N, heads, dim), and no weights.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    first = query.shape[2] - (0 if visible is None else len(visible))
    shared = scaled_dot_product_attention(
        query[:, :, :first], key[:, :, :first], value[:, :, :first], is_causal=True, scale=scaling
    )
    if visible is None:
        return shared.transpose(1, 2), None
    own = scaled_dot_product_attention(query[:, :, first:], key, value, attn_mask=visible, scale=scaling)
    return torch.cat((shared, own), dim=2).transpose(1, 2), None


AttentionInterface.register(LESSON_ATTENTION, lesson_attention)


def attend_to_lessons(text_model: nn.Module) -> None:
    """Have a transformers language model use it from now on."""
    config: Any = text_model.config
    config._attn_implementation = LESSON_ATTENTION
