"""Teaches one head of the base where to look: at what is asked about, or away where that is not shown.

Left alone, a small model finds out late that words can be looked up in a video; shown where, it does so
early, and all its questions gain by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from vm.moments import Span
from vm.scenes.clip import Clip
from vm.scenes.script import Event
from vm.training.lesson_attention import lesson_attention
from vm.training.student import Layout
from vm.training.tiny.sights import covered_cells

_LAYER, _HEAD = 3, 0
_NAME = "watched-lesson"
_AWAY = 0  # the place of the sequence's first token, which says nothing


def watch(text_model: nn.Module) -> None:
    """Have a transformers language model read lessons so that `missed` can tell where it looked."""
    config: Any = text_model.config
    config._attn_implementation = _NAME


def _watched_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if module.layer_idx == _LAYER:
        groups = query.shape[1] // key.shape[1]
        module.looked = query[0, _HEAD] * scaling, key[0, _HEAD // groups]
    return lesson_attention(module, query, key, value, visible, scaling, **kwargs)


AttentionInterface.register(_NAME, _watched_attention)


def missed(
    text_model: Any, layout: Layout, places: Sequence[int], wanted: Sequence[Tensor], video: int
) -> Tensor:
    """How little the head looks at what it should, (P,): minus the logarithm of the attention spent there.

    Args:
        places: in the sequence, from which it looks; they belong to examples.
        wanted: per place (T·H·W,) bool, the video's tokens to look at; away where there are none.
        video: the id of the video's tokens.
    """
    query, key = text_model.layers[_LAYER].self_attn.looked
    prefix = int((layout.owners == 0).sum())
    chosen = torch.tensor(places)
    seen = layout.visible()[chosen - prefix]
    scores = (query[chosen] @ key.T).masked_fill(~seen, -torch.inf)
    targets = torch.zeros_like(seen)
    targets[:, layout.ids == video] = torch.stack(list(wanted))
    targets[~targets.any(1), _AWAY] = True
    return scores.logsumexp(1) - scores.masked_fill(~targets, -torch.inf).logsumexp(1)


def looked_for(
    clip: Clip, span: Span, grid: tuple[int, int, int], event: Event, where: Span | None
) -> Tensor:
    """(T·H·W,) bool: the tokens of a view of `span` that show the actor during the event, in some stretch.

    None of them where the stretch is None.
    """
    frames, rows, columns = grid
    shown = torch.zeros(frames, rows, columns, dtype=torch.bool)
    start = max(event.span.start, where.start) if where else span.end
    end = min(event.span.end, where.end) if where else span.end
    for patch in range(frames):
        time = span.start + (patch + 0.5) / frames * span.length
        if start <= time < end:
            cells = covered_cells(event.actor, clip.script.aspect, time, rows, columns)
            shown[patch] = torch.from_numpy(cells)
    return shown.flatten()
