"""What goes on: labels for the base's states, straight from a scene's script.

They name pairs (kind and action, colour and action, kind and colour), of which a combination never
seen is made up as well as any other; and, of coming and going, from or to which side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from vm.moments import Span
from vm.scenes.clip import Clip
from vm.scenes.script import Actor, Event
from vm.scenes.vocabulary import ACTIONS, COLOURS, KINDS
from vm.training.tiny.sights import covered_cells

_COLOURS = list(COLOURS)
_WORD = re.compile(r"\w+")
_COLOUR_ACTIONS = len(KINDS) * len(ACTIONS)
_KIND_COLOURS = _COLOUR_ACTIONS + len(COLOURS) * len(ACTIONS)
_SIDES = _KIND_COLOURS + len(KINDS) * len(COLOURS)  # coming from, going to the left, the right
_WAYS = [("enter", "left"), ("enter", "right"), ("leave", "left"), ("leave", "right")]
DOINGS = _SIDES + (len(KINDS) + len(COLOURS)) * len(_WAYS)
_SIDE_WEIGHT = 6.0  # seldom seen, and learnt late without it


def frame_doings(clip: Clip, span: Span, count: int) -> Tensor:
    """(count, DOINGS) of 0 and 1: what goes on in each of a view's temporal patches."""
    labels = torch.zeros(count, DOINGS)
    for patch, time in enumerate(_times(span, count)):
        for actor, event in _active(clip, time):
            labels[patch, [*_names(actor, event)]] = 1
    return labels


def token_doings(clip: Clip, span: Span, grid: tuple[int, int, int]) -> Tensor:
    """(T, H·W, DOINGS) of 0 and 1: who is in each token's part of the picture, and what he does there."""
    frames, rows, columns = grid
    labels = torch.zeros(frames, rows, columns, DOINGS)
    for patch, time in enumerate(_times(span, frames)):
        doing: dict[int, list[int]] = {id(actor): [_pair(actor)] for actor in clip.script.actors}
        for actor, event in _active(clip, time):
            doing[id(actor)] += _names(actor, event)
        for actor in clip.script.actors:
            cells = torch.from_numpy(covered_cells(actor, clip.script.aspect, time, rows, columns))
            for name in doing[id(actor)]:
                labels[patch, ..., name][cells] = 1
    return labels.flatten(1, 2)


def asked_doings(event: Event, text: str) -> tuple[Tensor, Tensor]:
    """What words ask about: (DOINGS,) of 0 and 1, and which of them the words decide, (DOINGS,) bool.

    Without a colour in it, a question decides the kind and the action alone; without a side, no side.
    """
    labels, known = torch.zeros(DOINGS), torch.ones(DOINGS, dtype=torch.bool)
    labels[[*_names(event.actor, event)]] = 1
    words = _WORD.findall(text)
    if event.actor.colour not in words:
        known[_COLOUR_ACTIONS:] = False
    elif event.side not in words:
        known[_SIDES:] = False
    return labels, known


def doing_weights() -> Tensor:
    """(DOINGS,) how much each label counts."""
    weights = torch.ones(DOINGS)
    weights[_SIDES:] = _SIDE_WEIGHT
    return weights


def _times(span: Span, count: int) -> list[float]:
    """The middles of a view's temporal patches, seconds."""
    return [span.start + (patch + 0.5) / count * span.length for patch in range(count)]


def _active(clip: Clip, time: float) -> Iterator[tuple[Actor, Event]]:
    """Who is busy with what at a time."""
    for event in clip.script.events:
        if event.span.start <= time < event.span.end:
            yield event.actor, event
            if event.action == "meet" and event.other:
                yield event.other, event


def _names(actor: Actor, event: Event) -> Iterator[int]:
    action = ACTIONS.index(event.action)
    yield KINDS.index(actor.kind) * len(ACTIONS) + action
    yield _COLOUR_ACTIONS + _COLOURS.index(actor.colour) * len(ACTIONS) + action
    yield _pair(actor)
    if event.side:
        way = _WAYS.index((event.action, event.side))
        yield _SIDES + KINDS.index(actor.kind) * len(_WAYS) + way
        yield _SIDES + (len(KINDS) + _COLOURS.index(actor.colour)) * len(_WAYS) + way


def _pair(actor: Actor) -> int:
    return _KIND_COLOURS + KINDS.index(actor.kind) * len(_COLOURS) + _COLOURS.index(actor.colour)
