"""SQL that seems to draw numbers and words by chance, and draws the same ones on every database."""

from __future__ import annotations

from collections.abc import Sequence

COLOURS = ("red", "white", "black", "blue", "silver", "green", "yellow", "orange", "brown", "grey", "pink")
THINGS = (
    *("car", "person", "lorry", "van", "bicycle", "dog", "forklift", "guard", "bus", "motorcycle", "child"),
    *("cleaner", "trolley", "pallet", "cat", "courier", "tractor", "crane", "scooter", "drone"),
)
DOINGS = (
    *("enters", "leaves", "stops", "waits", "turns", "parks", "reverses", "loads", "unloads", "runs"),
    *("falls", "opens", "closes", "carries", "drops", "climbs"),
)
PLACES = ("gate", "yard", "ramp", "door", "dock", "corridor", "fence", "crossing", "stairs", "platform")

_PRIME, _ROOT = 1_000_003, 485_818


def draw(below: int, salt: int, row: str = "n") -> str:
    """A whole number from 0. Numbers of different `salt` have nothing to do with each other."""
    return f"({row}) * {pow(_ROOT, salt, _PRIME)} % {_PRIME} * {below} / {_PRIME}"


def word(words: Sequence[str], salt: int) -> str:
    """One of the words, the first ones more often: neither arrays nor CHOOSE are there everywhere."""
    width = max(map(len, words))
    drawn = f"({draw(1000, salt)})"
    place = f"{drawn} * {drawn} * {len(words)} / 1000000"
    listed = "".join(word.ljust(width) for word in words)
    return f"rtrim(substr('{listed}', CAST({place} * {width} + 1 AS INTEGER), {width}))"
