"""The timestamp decoder's three losses (paper section 3.3, `videomind/model/loss.py`).

At every point of the pyramid a binary focal loss asks whether a moment is there, and where one is, an L1
loss asks how far its ends are; a contrastive loss draws the query to a frame within the moment. Each is
summed over the decoder's fusion layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from vm.model.timestamp_decoder import STRIDES, PyramidOutput

_CLASSIFICATION_WEIGHT = 5.0
_BOUNDARY_WEIGHT = 1.0
_CONTRASTIVE_WEIGHT = 0.05
_FOCUS = 2.0
_TEMPERATURE = 0.07
_SAMPLING_RADIUS = 1.5  # in strides: how far from a moment's centre points still stand for it


@dataclass(frozen=True)
class GroundingLosses:
    """Weighted as published, (N,) each: one figure per query."""

    classification: Tensor
    boundary: Tensor
    contrastive: Tensor

    @property
    def total(self) -> Tensor:
        return self.classification + self.boundary + self.contrastive


def grounding_losses(output: PyramidOutput, spans: Sequence[Tensor], anchors: Tensor) -> GroundingLosses:
    """What the decoder's output lacks.

    Args:
        output: the decoder's, in training; L fusion layers by N queries.
        spans: per query its true spans, (K, 2), K ≥ 1, as fractions of the video.
        anchors: (N,) per query a frame within one of its spans.
    """
    frames = output.frames.shape[1]
    found = [_targets(output.points, output.strides, own.to(output.points) * frames) for own in spans]
    layers = len(output.logits) // len(spans)
    present = torch.stack([target[0] for target in found]).repeat(layers, 1)
    offsets = torch.stack([target[1] for target in found]).repeat(layers, 1, 1)
    classification = _focal(output.logits, present, output.within)
    boundary = _distance(output.offsets, offsets, present)
    contrastive = _contrast(output.frames, output.query, anchors.repeat(layers))
    per_query = [each.view(layers, -1).sum(0) for each in (classification, boundary, contrastive)]
    return GroundingLosses(
        _CLASSIFICATION_WEIGHT * per_query[0],
        _BOUNDARY_WEIGHT * per_query[1],
        _CONTRASTIVE_WEIGHT * per_query[2],
    )


def at_least_a_frame(spans: Tensor, frames: int) -> Tensor:
    """(K, 2) spans as fractions of a video; those under a frame's length grown to it, kept inside."""
    half = 0.5 / frames
    center = spans.mean(1, keepdim=True).clamp(half, 1 - half)
    short = spans[:, 1:] - spans[:, :1] < 2 * half
    return torch.where(short, torch.cat((center - half, center + half), dim=1), spans.clamp(0, 1))


def draw_anchor(spans: Tensor, frames: int) -> Tensor:
    """A frame that begins within one of the spans (K, 2), by chance; spans are at least a frame long."""
    starts = torch.arange(frames, device=spans.device)
    ends = (spans * frames).ceil()
    inside = ((starts >= ends[:, :1]) & (starts < ends[:, 1:])).any(0).nonzero()[:, 0]
    if not len(inside):  # rounding can make a span of one frame seem to miss it
        return (spans[0].mean() * frames).long().clamp(max=frames - 1)
    return inside[torch.randint(len(inside), (), device=spans.device)]


def _targets(points: Tensor, strides: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
    """What each of P points is to say of spans (K, 2) in frames: whether one is there (P,), 0 or 1, and
    the distances to its ends in strides (P, 2).

    A point stands for spans it lies in near their centre, of a length its level is for; of several, for
    the shortest.
    """
    place, stride = points[:, None], strides[:, None]
    center = spans.mean(1)
    reach = _SAMPLING_RADIUS * stride
    near = (place >= torch.maximum(center - reach, spans[:, 0])) & (
        place <= torch.minimum(center + reach, spans[:, 1])
    )
    distances = torch.stack((place - spans[:, 0], spans[:, 1] - place), dim=-1)
    least = torch.where(stride > STRIDES[0], stride, 0)
    most = torch.where(stride < STRIDES[-1], 2 * stride, torch.inf)
    furthest = distances.amax(-1)
    lengths = (spans[:, 1] - spans[:, 0]).expand(len(points), -1)
    lengths = lengths.masked_fill(~(near & (furthest >= least) & (furthest <= most)), torch.inf)
    shortest, chosen = lengths.min(1)
    return shortest.isfinite().to(spans), distances[torch.arange(len(points)), chosen] / stride


def _focal(logits: Tensor, present: Tensor, within: Tensor) -> Tensor:
    """(R,) binary focal loss of (R, P) logits, the mean over the points on the video."""
    chances = logits.sigmoid()
    missed = 1 - (chances * present + (1 - chances) * (1 - present))
    losses = binary_cross_entropy_with_logits(logits, present, reduction="none") * missed**_FOCUS
    return (losses * within).sum(1) / within.sum()


def _distance(offsets: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """(R,) mean absolute error of (R, P, 2) offsets where a moment is present; 0 where none is."""
    errors = (offsets - targets).abs().mean(-1)
    return (errors * present).sum(1) / present.sum(1).clamp(min=1)


def _contrast(frames: Tensor, query: Tensor, anchors: Tensor) -> Tensor:
    """(R,) how little (R, 1, C) queries prefer their anchor among all (R, T, C) frames."""
    similarities = cosine_similarity(frames, query, dim=-1) / _TEMPERATURE
    return -similarities.log_softmax(1).gather(1, anchors[:, None])[:, 0]
