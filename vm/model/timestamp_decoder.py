"""The timestamp decoder: hidden states to spans (paper section 3.3).

Frames and the `<|reg|>` query meet in three transformer layers; a temporal pyramid looks at them at
strides 1, 2, 4 and 8; at each of its points one head says how likely a moment is there and another
how far its ends are. Attribute names are those of the published checkpoints
(`videomind/model/model.py`, `blocks.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

STRIDES = (1, 2, 4, 8)
HEADS = 8
_FEED_FORWARD_RATIO = 4
_LAYERS = 3
_PATH_DROPOUT = 0.1


@dataclass(frozen=True)
class PyramidOutput:
    """What the decoder says at each of the P points of the pyramid, for each of N queries.

    In training every fusion layer's output is read, so that N is three times the number of queries:
    all after the first layer, then all after the second. Short videos are padded to a whole stride of
    the coarsest level then, and have points beyond their end.

    Attributes:
        points: (P,) the points' places, in frames.
        strides: (P,) the stride of the level a point is on, in frames.
        logits: (N, P) how likely a moment is there, before the sigmoid.
        offsets: (N, P, 2) distances to start and end, in strides.
        frames: (N, T, C) the fused frame embeddings.
        query: (N, 1, C) the fused query embeddings.
    """

    points: Tensor
    strides: Tensor
    logits: Tensor
    offsets: Tensor
    frames: Tensor
    query: Tensor

    @property
    def within(self) -> Tensor:
        """(P,) bool: points on the video, not on its padding."""
        return self.points < self.frames.shape[1]

    def normalized_spans(self) -> Tensor:
        """(N, P, 2): start and end at each point as fractions of the video, not clamped, not ordered."""
        reach = self.offsets * self.strides[:, None]
        spans = torch.stack((self.points - reach[..., 0], self.points + reach[..., 1]), dim=-1)
        return spans / self.frames.shape[1]


class TimestampDecoder(nn.Module):
    """Regresses spans from the language model's hidden states.

    Args:
        hidden_size: width of the language model.
        dims: width of the decoder (256 as published).
        activation: name of the language model's activation.
    """

    def __init__(self, hidden_size: int, dims: int = 256, activation: str = "silu") -> None:
        super().__init__()
        self.vis_proj = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, dims))
        self.reg_proj = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, dims))
        self.vis_emb = _Embedding(dims)
        self.reg_emb = _Embedding(dims)
        self.vis_fuse = nn.ModuleList(_FusionLayer(dims, activation) for _ in range(_LAYERS))
        self.vis_norm = nn.LayerNorm(dims)
        self.pyramid = _Pyramid(dims, activation)
        self.class_head = _Head(dims, 1, activation)
        self.coord_head = _Head(dims, 2, activation)
        self.coef = _LevelScale()

    def forward(self, frame_states: Tensor, query_states: Tensor) -> PyramidOutput:
        """Fuse frames and queries, and read the pyramid.

        Args:
            frame_states: (T, hidden) the mean hidden state over each temporal patch's tokens.
            query_states: (N, hidden) the hidden states from which `<|reg|>` was predicted.
        """
        frames = self.vis_emb(self.vis_proj(frame_states)).expand(len(query_states), -1, -1)
        query = self.reg_emb(self.reg_proj(query_states[:, None]))
        joint = torch.cat((frames + sinusoidal_positions(frames.shape[1], frames), query), dim=1)
        fused = []
        for layer in self.vis_fuse:
            joint = layer(joint)
            fused.append(joint)
        joint = self.vis_norm(torch.cat(fused if self.training else fused[-1:]))
        return self._read_pyramid(joint[:, :-1], joint[:, -1:])

    def _read_pyramid(self, frames: Tensor, query: Tensor) -> PyramidOutput:
        lacking = max(0, STRIDES[-1] - frames.shape[1]) if self.training else 0
        levels = self.pyramid(nn.functional.pad(frames, (0, 0, 0, lacking)))
        logits = [self.class_head(level)[..., 0] for level in levels]
        offsets = [self.coord_head(level).exp() * self.coef.scale[i] for i, level in enumerate(levels)]
        points = [
            torch.arange(level.shape[1]) * stride for level, stride in zip(levels, STRIDES, strict=False)
        ]
        strides = [torch.full_like(places, STRIDES[i]) for i, places in enumerate(points)]
        return PyramidOutput(
            torch.cat(points).to(frames),
            torch.cat(strides).to(frames),
            torch.cat(logits, dim=1),
            torch.cat(offsets, dim=1),
            frames,
            query,
        )


def mean_frame_states(states: Tensor, frames: int) -> Tensor:
    """(T, hidden) in float32: the mean over each temporal patch's tokens of (T·H·W, hidden)."""
    return states.float().view(frames, -1, states.shape[-1]).mean(1)


def best_spans(output: PyramidOutput, nms_iou: float, limit: int = 100) -> tuple[Tensor, Tensor]:
    """The first query's best spans after greedy non-maximum suppression.

    As published, a suppressed span keeps its place with confidence 0, so that `limit` spans come
    back wherever the pyramid has that many points.

    Returns:
        spans (K, 2) as fractions of the video and confidences (K,), float32 on the CPU, K ≤ limit.
    """
    spans = output.normalized_spans()[0].float().cpu()
    confidences = output.logits[0].float().sigmoid().cpu()
    finite = spans.isfinite().all(dim=1) & confidences.isfinite()
    spans, confidences = spans[finite], confidences[finite]
    order = confidences.argsort(descending=True, stable=True)
    spans, confidences = spans[order], confidences[order]
    kept, scores = _suppress(_pairwise_iou(spans).numpy(), confidences.numpy().copy(), nms_iou, limit)
    return spans[kept], torch.from_numpy(scores[kept])


def _suppress(
    iou: np.ndarray, scores: np.ndarray, threshold: float, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Select the best remaining, set to 0 what overlaps it, and so on (swaps decide among equals)."""
    order = np.arange(len(scores))
    for place in range(min(limit, len(order))):
        best = place + int(scores[order[place:]].argmax())
        order[[place, best]] = order[[best, place]]
        rest = order[place + 1 :]
        scores[rest[iou[order[place], rest] >= threshold]] = 0
    return order[:limit], scores


def _pairwise_iou(spans: Tensor) -> Tensor:
    """(K, K), on raw spans: a start after its end counts as a negative length, as published."""
    length = spans[:, 1] - spans[:, 0]
    shared = torch.minimum(spans[:, None, 1], spans[:, 1]) - torch.maximum(spans[:, None, 0], spans[:, 0])
    shared = shared.clamp(min=0)
    return shared / (length[:, None] + length - shared)


def sinusoidal_positions(count: int, like: Tensor) -> Tensor:
    """(count, C) sine and cosine of positions 1…count scaled to one full turn; C and dtype as `like`'s."""
    dims = like.shape[-1]
    places = torch.arange(1, count + 1, device=like.device) / (count + 1e-6) * (2 * math.pi)
    frequencies = 10000 ** (torch.arange(dims, device=like.device) // 2 * 2 / dims)
    angles = places[:, None] / frequencies
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1).to(like.dtype)


class _Embedding(nn.Module):
    """A learned vector added to every position; tells frames from queries."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(1, 1, dims) / math.sqrt(dims))

    def forward(self, states: Tensor) -> Tensor:
        return states + self.weights


class _Attention(nn.Module):
    def __init__(self, dims: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.m = (nn.Linear(dims, dims) for _ in range(4))

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (
            project(states).unflatten(-1, (HEADS, -1)).transpose(1, 2) for project in (self.q, self.k, self.v)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.m(mixed.transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, dims: int, activation: str) -> None:
        super().__init__()
        wide = dims * _FEED_FORWARD_RATIO
        self.mapping = nn.Sequential(nn.Linear(dims, wide), ACT2FN[activation], nn.Linear(wide, dims))

    def forward(self, states: Tensor) -> Tensor:
        return self.mapping(states)


class _FusionLayer(nn.Module):
    """A pre-norm transformer layer over frames and query."""

    def __init__(self, dims: int, activation: str) -> None:
        super().__init__()
        self.self_att_norm = nn.LayerNorm(dims)
        self.self_att = _Attention(dims)
        self.ffn_norm = nn.LayerNorm(dims)
        self.ffn = _FeedForward(dims, activation)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self._dropped(self.self_att(self.self_att_norm(states)))
        return states + self._dropped(self.ffn(self.ffn_norm(states)))

    def _dropped(self, update: Tensor) -> Tensor:
        """In training, a query's whole update is left out now and then (stochastic depth)."""
        if not self.training:
            return update
        kept = torch.rand(len(update), 1, 1, device=update.device) >= _PATH_DROPOUT
        return update * kept / (1 - _PATH_DROPOUT)


class _Transpose(nn.Module):
    """Convolutions want (N, C, T), everything else (N, T, C)."""

    def forward(self, states: Tensor) -> Tensor:
        return states.transpose(-1, -2)


class _Pyramid(nn.Module):
    """The frames at each stride; halved by convolution once per factor of two."""

    def __init__(self, dims: int, activation: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self._level(dims, activation, int(math.log2(s))) for s in STRIDES)

    @staticmethod
    def _level(dims: int, activation: str, halvings: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(halvings):
            halve = nn.Conv1d(dims, dims, 2, stride=2)
            layers += [_Transpose(), halve, _Transpose(), nn.LayerNorm(dims), ACT2FN[activation]]
        return nn.Sequential(*(layers or [ACT2FN[activation]]))

    def forward(self, frames: Tensor) -> list[Tensor]:
        """One (N, T // stride, C) per level; levels coarser than the video are left out."""
        return [
            level(frames)
            for level, stride in zip(self.blocks, STRIDES, strict=True)
            if frames.shape[1] >= stride
        ]


class _Head(nn.Module):
    def __init__(self, dims: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.module = nn.Sequential(
            _Transpose(),
            nn.Conv1d(dims, dims, 3, padding=1),
            ACT2FN[activation],
            nn.Conv1d(dims, outputs, 3, padding=1),
            _Transpose(),
        )

    def forward(self, level: Tensor) -> Tensor:
        return self.module(level)


class _LevelScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(len(STRIDES)))
