"""The synthetic world's words: what there is, in which colours, what it can do, what is never trained on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Kind = Literal["person", "car", "bicycle", "dog", "ball", "bag", "box", "door"]
Action = Literal["enter", "leave", "stop", "turn", "pick up", "put down", "meet", "open", "close"]
Side = Literal["left", "right"]
Place = Literal["road", "lawn", "tiles", "room", "sand"]
Split = Literal["train", "validation", "test"]

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (215, 30, 35),
        "green": (25, 150, 50),
        "blue": (35, 70, 215),
        "yellow": (245, 215, 25),
        "white": (248, 248, 248),
        "black": (18, 18, 22),
        "purple": (150, 40, 190),
    }
)
MOBILE: tuple[Kind, ...] = ("person", "car", "bicycle", "dog", "ball")
ITEMS: tuple[Kind, ...] = ("bag", "ball", "box")
PLACES: tuple[Place, ...] = ("road", "lawn", "tiles", "room", "sand")
KINDS: tuple[Kind, ...] = ("person", "car", "bicycle", "dog", "ball", "bag", "box", "door")
ACTIONS: tuple[Action, ...] = (
    "enter",
    "leave",
    "stop",
    "turn",
    "pick up",
    "put down",
    "meet",
    "open",
    "close",
)

_SHARED: tuple[Action, ...] = ("enter", "leave", "stop", "turn")  # what all that moves can do

# A split's scenes are those of its own seeds.
SEEDS: Mapping[Split, range] = MappingProxyType(
    {"train": range(10_000_000), "validation": range(10**7, 11 * 10**6), "test": range(2 * 10**7, 21 * 10**6)}
)


def held_out(kind: Kind, colour: str, action: Action) -> bool:
    """Whether this combination is kept out of training altogether, so that composition can be measured.

    About one in thirteen of what several kinds can do; each of its parts, and each pair of them, is seen
    in other combinations.
    """
    if kind not in MOBILE or action not in _SHARED:
        return False
    place = 3 * KINDS.index(kind) + 5 * list(COLOURS).index(colour) + 7 * ACTIONS.index(action)
    return place % 13 == 4
