"""A scene's frames, drawn. Shapes are drawn large once per pose and made small, so that edges are smooth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from vm.scenes.script import HEIGHTS, WIDTHS, Actor, Script
from vm.scenes.vocabulary import COLOURS, PLACES, Kind, Place

_FINE = 4  # shapes are drawn this much larger
_DARK = (40, 40, 45)
_SKIN = (225, 180, 150)
_STRIDE = 0.08  # heights walked between two changes of the legs
_NOISE = 8  # levels: half the range of the strongest noise


@dataclass(frozen=True)
class Look:
    """Everything about a scene's picture but what happens in it. Sizes in pixels."""

    width: int
    height: int
    place: Place
    seed: int
    noise: int
    shake: float
    light: float


def random_look(rng: random.Random, width: int, height: int) -> Look:
    """A place, and how bad the camera is."""
    return Look(
        width,
        height,
        place=rng.choice(PLACES),
        seed=rng.randrange(2**31),
        noise=rng.choice((0, 2, 4, _NOISE)),
        shake=rng.choice((0.0, 0.0, 0.006, 0.012)),
        light=rng.choice((0.0, 0.0, 0.15, 0.3)),
    )


class Painter:
    """Draws a script's frames, each from nothing but its time.

    Args:
        script: what happens.
        look: where, and through what camera.
    """

    def __init__(self, script: Script, look: Look) -> None:
        self._script, self._look = script, look
        self._margin = math.ceil(look.shake * look.height * 2) + 1
        self._ground = _background(look, self._margin)
        self._order = sorted(script.actors, key=lambda actor: (actor.kind != "door", actor.lane))
        self._noise = _noise_tile(look)
        self._mask = _light_mask(look) if look.light else None

    def frame(self, time: float) -> np.ndarray:
        """uint8 (height, width, 3), RGB, at `time` seconds."""
        look = self._look
        dx, dy = self._shake(time)
        corner = (self._margin + dx, self._margin + dy)
        canvas = self._ground.crop((*corner, corner[0] + look.width, corner[1] + look.height))
        for actor in self._order:
            if not self._taken_away(actor, time):
                self._place(canvas, actor, time, (dx, dy))
        if self._mask is not None:
            canvas = self._shine(canvas, time)
        if self._noise is not None:
            canvas = self._grain(canvas, time)
        return np.asarray(canvas)

    def _taken_away(self, actor: Actor, time: float) -> bool:
        holder = actor.held_by(time)
        if holder is None:
            return False
        return not -holder.half < holder.place.at(time) < self._script.aspect + holder.half

    def _shake(self, time: float) -> tuple[int, int]:
        swing = self._look.shake * self._look.height
        phase = self._look.seed % 7
        return (
            round(swing * math.sin(2.9 * time + phase) + swing * math.sin(7.3 * time) / 2),
            round(swing * math.cos(3.7 * time + phase) / 2 + swing * math.sin(5.1 * time) / 2),
        )

    def _place(self, canvas: Image.Image, actor: Actor, time: float, shift: tuple[int, int]) -> None:
        x, foot, scale = whereabouts(actor, time)
        height = self._look.height
        sprite = _sprite(actor.kind, actor.colour, round(height * scale), *_pose(actor, time))
        left = round(x * height - sprite.width / 2) - shift[0]
        top = round(foot * height) - sprite.height - shift[1]
        if -sprite.width < left < canvas.width:
            canvas.paste(sprite, (left, top), sprite)

    def _shine(self, canvas: Image.Image, time: float) -> Image.Image:
        assert self._mask is not None
        wide, high = self._look.width, self._look.height
        x = round(wide / 2 + wide / 2 * math.sin(time / 5 + self._look.seed % 5))
        return ImageChops.multiply(canvas, self._mask.crop((x, high // 4, x + wide, high // 4 + high)))

    def _grain(self, canvas: Image.Image, time: float) -> Image.Image:
        assert self._noise is not None
        hashed = random.Random(f"{self._look.seed} {time:.3f}")  # noqa: S311
        x, y = hashed.randrange(64), hashed.randrange(64)
        tile = self._noise.crop((x, y, x + self._look.width, y + self._look.height))
        return ImageChops.add(canvas, tile, scale=1, offset=-self._look.noise)


def whereabouts(actor: Actor, time: float) -> tuple[float, float, float]:
    """Middle and foot in heights, and scale: the nearer the larger. What is carried is with its carrier."""
    scale = 0.72 + 0.3 * actor.lane
    holder = actor.held_by(time)
    if holder is None:
        return actor.place.at(time), actor.lane, scale
    lift = 0.18 * (1 - holder.crouch.at(time)) * scale
    facing = 1 if holder.velocity(time) >= 0 else -1
    return holder.place.at(time) + 0.11 * facing, holder.lane - lift, scale


def _pose(actor: Actor, time: float) -> tuple[bool, int, int, int]:
    """Facing right, legs apart, and the main measure of the pose in quarters; the last for raised arms."""
    velocity = actor.velocity(time)
    moving = abs(velocity) > 0.01
    step = int(actor.place.at(time) / _STRIDE) % 2 if moving else 0
    if actor.kind == "door":
        return True, 0, round(actor.opening.at(time) * 6), 0
    return velocity >= 0, step, round(actor.crouch.at(time) * 4), round(actor.arms.at(time))


@lru_cache(maxsize=4096)
def _sprite(
    kind: Kind, colour: str, height: int, right: bool, step: int, degree: int, arms: int
) -> Image.Image:
    """A shape with its own transparency, for a scene that is `height` pixels high at its scale."""
    wide, high = (max(4, round(height * size)) for size in (WIDTHS[kind], HEIGHTS[kind]))
    large = Image.new("RGBA", (wide * _FINE, high * _FINE))
    _SHAPES[kind](_Pen(large), COLOURS[colour], step, degree, arms)
    small = large.resize((wide, high), Image.Resampling.BOX)
    return small if right else small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class _Pen:
    """Draws in fractions of the picture's sides."""

    def __init__(self, picture: Image.Image) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._size = picture.size

    def _at(self, points: tuple[float, ...]) -> list[float]:
        return [value * self._size[i % 2] for i, value in enumerate(points)]

    def box(self, *corners: float, fill: tuple[int, ...], edge: bool = True) -> None:
        outline = _DARK if edge else None
        self._draw.rectangle(self._at(corners), fill=fill, outline=outline, width=_FINE // 2)

    def oval(self, *corners: float, fill: tuple[int, ...] | None, line: float = 0.02) -> None:
        width = max(1, round(line * self._size[0]))
        self._draw.ellipse(self._at(corners), fill=fill, outline=_DARK, width=width)

    def shape(self, *points: float, fill: tuple[int, ...]) -> None:
        self._draw.polygon(self._at(points), fill=fill, outline=_DARK)

    def line(self, *points: float, fill: tuple[int, ...], width: float) -> None:
        self._draw.line(self._at(points), fill=fill, width=max(1, round(width * self._size[0])))


Shape = Callable[[_Pen, tuple[int, int, int], int, int, int], None]


def _person(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    down = degree * 0.1
    apart = 0.3 if step else 0.14
    hip, neck = 0.62 + down * 0.6, 0.24 + down
    for x in (0.5 - apart, 0.5 + apart):
        pen.line(0.5, hip, x, 1.0, fill=_DARK, width=0.16)
    pen.box(0.24, neck, 0.76, hip + 0.04, fill=colour)
    pen.oval(0.3, neck - 0.22, 0.7, neck + 0.0, fill=_SKIN)
    if arms:
        for x in (0.02, 0.98):
            pen.line(0.5, neck + 0.08, x, max(0.02, neck - 0.16), fill=_SKIN, width=0.16)
    elif degree >= 2:
        pen.line(0.6, neck + 0.1, 0.98, 0.95, fill=_SKIN, width=0.14)
    else:
        pen.line(0.6, neck + 0.08, 0.84, neck + 0.3, fill=_SKIN, width=0.13)


def _car(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    pen.shape(0.18, 0.42, 0.3, 0.04, 0.66, 0.04, 0.8, 0.42, fill=colour)
    pen.shape(0.26, 0.4, 0.34, 0.12, 0.62, 0.12, 0.72, 0.4, fill=(190, 215, 225))
    pen.box(0.01, 0.4, 0.99, 0.82, fill=colour)
    pen.box(0.93, 0.46, 0.99, 0.58, fill=(255, 240, 150), edge=False)
    for x in (0.14, 0.66):
        pen.oval(x, 0.62, x + 0.2, 1.0, fill=_DARK)
        pen.oval(x + 0.06, 0.74, x + 0.14, 0.88, fill=(170, 170, 170))


def _bicycle(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    for x in (0.01, 0.57):
        pen.oval(x, 0.42, x + 0.42, 0.99, fill=None, line=0.05)
    frame = (0.22, 0.7, 0.4, 0.3, 0.72, 0.3, 0.5, 0.72, 0.22, 0.7, 0.5, 0.72, 0.4, 0.3)
    pen.line(*frame, fill=colour, width=0.09)
    pen.line(0.78, 0.7, 0.7, 0.14, fill=colour, width=0.09)
    pen.line(0.62, 0.1, 0.84, 0.14, fill=_DARK, width=0.05)
    pen.line(0.3, 0.2, 0.46, 0.2, fill=_DARK, width=0.08)


def _dog(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    spread = 0.08 if step else 0.0
    for x in (0.22 - spread, 0.3 + spread, 0.62 - spread, 0.7 + spread):
        pen.line(x + 0.02, 0.6, x, 1.0, fill=colour, width=0.08)
    pen.line(0.16, 0.42, 0.02, 0.1, fill=colour, width=0.07)
    pen.oval(0.12, 0.32, 0.78, 0.74, fill=colour)
    pen.oval(0.64, 0.08, 0.92, 0.52, fill=colour)
    pen.shape(0.68, 0.14, 0.72, 0.0, 0.8, 0.12, fill=colour)
    pen.oval(0.84, 0.26, 1.0, 0.46, fill=_DARK)


def _ball(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    pen.oval(0.02, 0.02, 0.98, 0.98, fill=colour, line=0.06)
    pen.line(0.1, 0.3 + 0.3 * step, 0.9, 0.6 - 0.3 * step, fill=(235, 235, 220), width=0.1)


def _bag(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    pen.oval(0.26, 0.02, 0.74, 0.6, fill=None, line=0.09)
    pen.shape(0.12, 0.34, 0.88, 0.34, 0.99, 0.99, 0.01, 0.99, fill=colour)


def _box(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    pen.box(0.01, 0.05, 0.98, 0.98, fill=colour)
    pen.line(0.02, 0.1, 0.96, 0.95, fill=(150, 110, 70), width=0.1)
    pen.line(0.02, 0.95, 0.96, 0.1, fill=(150, 110, 70), width=0.1)


def _door(pen: _Pen, colour: tuple[int, int, int], step: int, degree: int, arms: int) -> None:
    pen.box(0.0, 0.0, 0.99, 0.99, fill=(110, 85, 60))
    pen.box(0.1, 0.05, 0.9, 0.99, fill=(60, 55, 60))
    edge = 0.9 - 0.68 * degree / 6
    slant = 0.1 * degree / 6
    pen.shape(0.1, 0.05, edge, 0.05 + slant, edge, 0.99 - slant, 0.1, 0.99, fill=colour)


_SHAPES: dict[str, Shape] = {
    "person": _person,
    "car": _car,
    "bicycle": _bicycle,
    "dog": _dog,
    "ball": _ball,
    "bag": _bag,
    "box": _box,
    "door": _door,
}


def _background(look: Look, margin: int) -> Image.Image:
    """Wall or sky above, ground below, both toned down so that what moves stands out."""
    rng = np.random.default_rng(look.seed)
    wide, high = look.width + 2 * margin, look.height + 2 * margin
    rows = np.linspace(0, 1, high)[:, None, None]
    columns = np.linspace(0, look.width / look.height, wide)[None, :, None]
    picture = np.where(rows < 0.55, _upper(look.place, rng, rows), _lower(look.place, rng, rows, columns))
    picture = picture + rng.normal(0, 2.5, (high, wide, 1)) + rng.uniform(-10, 10, 3)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def _upper(place: Place, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    tones = {
        "road": (150, 165, 185),
        "lawn": (165, 185, 200),
        "tiles": (190, 185, 175),
        "room": (180, 165, 150),
        "sand": (170, 190, 210),
    }
    return np.array(tones[place]) + (rows - 0.3) * rng.uniform(-50, 50)


def _lower(place: Place, rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    size = rng.uniform(0.06, 0.1)
    blank = 0 * rows + 0 * columns
    if place == "road":
        dash = (abs(rows - 0.78) < 0.012) & ((columns / 0.15).astype(int) % 2 == 0)
        return blank + np.array((105, 105, 110)) + np.where(dash, 90, 0)
    if place == "lawn":
        blades = 9 * np.sin(columns * 90 + 9 * np.sin(rows * 70)) + blank
        return np.array((105, 140, 90)) + blades
    if place == "tiles":
        checks = ((columns / size).astype(int) + (rows / size).astype(int)) % 2
        return np.array((165, 160, 155)) + np.where(checks == 0, -22, 12)
    if place == "room":
        return np.array((135, 105, 80)) + np.where((rows / 0.05).astype(int) % 2 == 0, -8, 8) + blank
    return np.array((200, 180, 140)) + 10 * np.sin(rows * 60 + 2 * np.sin(columns * 5)) + blank


def _noise_tile(look: Look) -> Image.Image | None:
    if not look.noise:
        return None
    rng = np.random.default_rng(look.seed + 1)
    shape = (look.height + 64, look.width + 64, 3)
    return Image.fromarray(rng.integers(0, 2 * look.noise + 1, shape, dtype=np.uint8))


def _light_mask(look: Look) -> Image.Image:
    """Twice as wide as the frame, darker towards its ends: moved along, it is light that moves."""
    high, wide = look.height * 3 // 2, look.width * 2
    across = np.linspace(-1, 1, wide)[None, :]
    glow = 1 - look.light * np.abs(across) ** 1.5 + np.zeros((high, 1))
    return Image.fromarray((glow[..., None] * (255, 255, 255)).astype(np.uint8))
