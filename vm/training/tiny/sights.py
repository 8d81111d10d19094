"""What there is to see where: labels for the vision tower, straight from a scene's script."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vm.scenes.clip import Clip
from vm.scenes.drawing import whereabouts
from vm.scenes.script import HEIGHTS, WIDTHS, Actor
from vm.scenes.vocabulary import COLOURS, ITEMS, KINDS, PLACES

_COLOURS = list(COLOURS)
_MOVING = 0.01  # heights per second
_SHARE = 0.35  # of the smaller of cell and actor that must be covered
# Where each group of labels begins.
_KIND_MOTION = len(KINDS) * len(_COLOURS)
_COLOUR_MOTION = _KIND_MOTION + 3 * len(KINDS)
_CROUCH = _COLOUR_MOTION + 3 * len(_COLOURS)
_ARMS = _CROUCH + len(_COLOURS)
_OPENING = _ARMS + len(_COLOURS)
_HELD = _OPENING + 3
_PLACE = _HELD + len(ITEMS)
SIGHTS = _PLACE + len(PLACES)


def cell_labels(clip: Clip, time: float, rows: int, columns: int) -> Tensor:
    """(rows · columns, SIGHTS) of 0 and 1: what each token's part of the picture shows at `time` seconds."""
    labels = torch.zeros(rows, columns, SIGHTS)
    labels[..., _PLACE + PLACES.index(clip.look.place)] = 1
    for actor in clip.script.actors:
        cells = torch.from_numpy(covered_cells(actor, clip.script.aspect, time, rows, columns))
        for place in _sights(actor, time):
            labels[..., place][cells] = 1
    return labels.view(-1, SIGHTS)


def covered_cells(actor: Actor, aspect: float, time: float, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) bool: the cells of the picture in which an actor is to be seen."""
    x, foot, scale = whereabouts(actor, time)
    wide, high = WIDTHS[actor.kind] * scale, HEIGHTS[actor.kind] * scale
    across = _shared(x - wide / 2, x + wide / 2, aspect / columns, columns)
    down = _shared(foot - high, foot, 1 / rows, rows)
    least = _SHARE * min(wide * high, aspect / columns / rows)
    return (down[:, None] > 0) & (across > 0) & (down[:, None] * across >= least)


def _shared(start: float, end: float, width: float, count: int) -> np.ndarray:
    """How much of each of `count` stretches in a row lies between start and end."""
    edges = np.arange(count) * width
    return np.minimum(end, edges + width) - np.maximum(start, edges)


def _sights(actor: Actor, time: float) -> Iterator[int]:
    kind, colour = KINDS.index(actor.kind), _COLOURS.index(actor.colour)
    yield kind * len(_COLOURS) + colour
    holder = actor.held_by(time)
    velocity = (holder or actor).velocity(time)
    motion = 0 if velocity < -_MOVING else 2 if velocity > _MOVING else 1
    yield _KIND_MOTION + 3 * kind + motion
    yield _COLOUR_MOTION + 3 * colour + motion
    if actor.crouch.at(time) > 0.4:
        yield _CROUCH + colour
    if actor.arms.at(time) > 0.5:
        yield _ARMS + colour
    if actor.kind == "door":
        yield _OPENING + round(actor.opening.at(time) * 2)
    if holder is not None:
        yield _HELD + ITEMS.index(actor.kind)


def sight_weights() -> Tensor:
    """(SIGHTS,) how much each label counts: what is seldom seen counts more."""
    weights = torch.ones(SIGHTS)
    weights[_CROUCH:_OPENING] = 4
    weights[_OPENING:_PLACE] = 3
    return weights
