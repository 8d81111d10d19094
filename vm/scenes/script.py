"""What happens in a scene: actors, their paths and poses over time, and every event to the frame.

Places are in units of the frame's height, from the left edge; times in seconds. Knows no pixels.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vm.moments import Span
from vm.scenes.vocabulary import COLOURS, ITEMS, MOBILE, Action, Kind, Side, held_out

WIDTHS: dict[str, float] = {
    "person": 0.2,
    "car": 0.46,
    "bicycle": 0.38,
    "dog": 0.32,
    "ball": 0.17,
    "bag": 0.18,
    "box": 0.18,
    "door": 0.26,
}
HEIGHTS: dict[str, float] = {
    "person": 0.5,
    "car": 0.24,
    "bicycle": 0.29,
    "dog": 0.22,
    "ball": 0.17,
    "bag": 0.18,
    "box": 0.17,
    "door": 0.52,
}
_LANES = (0.66, 0.76, 0.86, 0.96)  # where feet stand, of the frame's height; the lower the nearer
_DOOR_SILL = 0.6
_REACH = 0.17  # between a person and what is picked up, or whom is met
_KIND_CHANCES = (0.42, 0.2, 0.14, 0.14, 0.1)  # of MOBILE


@dataclass
class Track:
    """A value over time, linear between its points."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, time: float, value: float) -> None:
        self.times.append(time)
        self.values.append(value)

    def at(self, time: float) -> float:
        return float(np.interp(time, self.times, self.values))


@dataclass
class Actor:
    """Somebody or something, its path and poses.

    `place` is its middle, `crouch`, `arms` and `opening` go from 0 to 1. `carrier` names who holds it when.
    """

    kind: Kind
    lane: float
    colour: str = ""
    place: Track = field(default_factory=Track)
    crouch: Track = field(default_factory=lambda: Track([0.0], [0.0]))
    arms: Track = field(default_factory=lambda: Track([0.0], [0.0]))
    opening: Track = field(default_factory=lambda: Track([0.0], [0.0]))
    carrier: list[tuple[float, float, Actor]] = field(default_factory=list)

    @property
    def half(self) -> float:
        return WIDTHS[self.kind] / 2

    def held_by(self, time: float) -> Actor | None:
        return next((who for start, end, who in self.carrier if start <= time < end), None)

    def velocity(self, time: float) -> float:
        """Heights per second."""
        return (self.place.at(time + 0.05) - self.place.at(time - 0.05)) / 0.1


@dataclass(frozen=True)
class Event:
    """Something an actor does, when, and with what or whom.

    `asked` is False where words could mean other moments of the same actor as well.
    """

    action: Action
    actor: Actor
    span: Span
    side: Side | None = None
    other: Actor | None = None
    asked: bool = True


@dataclass(frozen=True)
class Script:
    """All that happens in `duration` seconds; `aspect` is the frame's width over its height."""

    duration: float
    aspect: float
    actors: tuple[Actor, ...]
    events: tuple[Event, ...]


def write_script(rng: random.Random, duration: float, aspect: float, composition: bool | None) -> Script:
    """Make up a scene.

    Args:
        composition: False never uses a combination that is held out, True uses one at least.
    """
    while True:
        script = _try_script(rng, duration, aspect, composition)
        rare = sum(map(is_held_out, script.events))
        if script.events and (composition is None or bool(rare) == composition):
            return script


def _try_script(rng: random.Random, duration: float, aspect: float, composition: bool | None) -> Script:
    stage = _Stage(rng, duration, aspect)
    if rng.random() < 0.35:
        stage.add_door()
    count = 1 + sum(rng.random() < min(0.85, duration / 45) for _ in range(3))
    if rng.random() < 0.3 and duration > 14:
        stage.add_meeting()
        count = max(1, count - 2)
    for _ in range(count):
        stage.add_walker()
    if rng.random() < 0.4:
        stage.add_item(stage.free_lane(), rng.uniform(0.2, aspect - 0.2))
    _colour(rng, stage, composition)
    return Script(duration, aspect, tuple(stage.actors), tuple(stage.events))


class _Stage:
    """Scenes are made actor by actor; each has its own clock, which runs from 0 to the end."""

    def __init__(self, rng: random.Random, duration: float, aspect: float) -> None:
        self.rng, self.duration, self.aspect = rng, duration, aspect
        self.actors: list[Actor] = []
        self.events: list[Event] = []
        # Longer clips are slower, so that what is to be found stays visible at one frame a second.
        self.pace = min(2.2, max(0.8, duration / 45))
        self._lanes = rng.sample(_LANES, len(_LANES))

    def free_lane(self) -> float:
        self._lanes = self._lanes[1:] + self._lanes[:1]
        return self._lanes[-1]

    def seconds(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high) * self.pace

    def add_door(self) -> None:
        door = Actor("door", _DOOR_SILL)
        door.place.add(0, self.rng.uniform(0.25, self.aspect - 0.25))
        time = self.rng.uniform(0.5, self.duration * 0.4)
        doings: tuple[tuple[Action, float], ...] = (("open", 1.0), ("close", 0.0))
        for action, goal in doings:
            end = time + self.seconds(2.8, 4.5)
            if end > self.duration - 0.3:
                break
            door.opening.add(time, 1 - goal)
            door.opening.add(end, goal)
            self.events.append(Event(action, door, Span(time, end)))
            time = end + self.seconds(3, 14)
        self.actors.append(door)

    def add_item(self, lane: float, place: float) -> Actor:
        item = Actor(self.rng.choice(ITEMS), lane)
        item.place.add(0, min(max(place, 0.1), self.aspect - 0.1))
        self.actors.append(item)
        return item

    def add_walker(self) -> None:
        kind = self._kind()
        walker = Actor(kind, self.free_lane())
        self.actors.append(walker)
        _Walk(self, walker).run()

    def _kind(self) -> Kind:
        """Often one that is there already: others of a kind are what makes a question hard."""
        there = [actor.kind for actor in self.actors if actor.kind in MOBILE and not actor.carrier]
        if there and self.rng.random() < 0.4:
            kind = self.rng.choice(there)
            if sum(actor.kind == kind for actor in self.actors) < 4:
                return kind
        return self.rng.choices(MOBILE, _KIND_CHANCES)[0]

    def add_meeting(self) -> None:
        """One waits, or comes first; another comes up to him; both stand together, and part."""
        lane = self.free_lane()
        first, second = Actor("person", lane), Actor("person", lane)
        self.actors += [first, second]
        spot = self.rng.uniform(0.35, self.aspect - 0.35)
        side: Side = self.rng.choice(("left", "right"))
        toward = -1 if side == "left" else 1
        waiting, coming = _Walk(self, first), _Walk(self, second)
        waiting.appear(spot, inside=self.rng.random() < 0.5, latest=0.25)
        coming.time = waiting.time + self.rng.uniform(0.5, 0.15 * self.duration)
        coming.enter(spot + toward * _REACH, side)
        start, end = coming.time, coming.time + self.seconds(3.5, 8)
        if end > self.duration - 0.5:
            return
        for actor in (first, second):
            for time, value in ((start, 0), (start + 0.3, 1), (end - 0.3, 1), (end, 0)):
                actor.arms.add(time, value)
        self.events.append(Event("meet", second, Span(start, end), other=first))
        for walk in (waiting, coming):
            self.events.append(Event("stop", walk.actor, Span(walk.time, end), asked=False))
            walk.time, walk.moved = end, False
            walk.finish(may_turn=False)


class _Walk:
    """One actor's doings, one after the other."""

    def __init__(self, stage: _Stage, actor: Actor) -> None:
        self.stage, self.actor, self.rng = stage, actor, stage.rng
        self.time = 0.0
        self.moved = False  # whether it came here by moving, so that standing still is stopping
        self.busy = False  # whether it did something while standing still
        self.held: Actor | None = None
        self.since = 0.0

    def run(self) -> None:
        aspect = self.stage.aspect
        self.appear(self.rng.uniform(0.2, aspect - 0.2), inside=self.rng.random() < 0.35, latest=0.45)
        doings = [self._wait, self._turn, self._wait]
        if self.actor.kind == "person":
            doings = self.rng.choice(([self._handle], [self._wait, self._handle], [self._turn, self._wait]))
        elif self.actor.kind == "ball":
            doings = [self._wait]
        for doing in self.rng.sample(doings, self.rng.randint(1, len(doings))):
            doing()
        self.finish(may_turn=self.actor.kind != "ball")

    def appear(self, spot: float, inside: bool, latest: float) -> None:
        self.time = self.since = 0.0
        if inside:
            self.actor.place.add(0, spot)
            self._stay(self.rng.uniform(0.5, latest * self.stage.duration))
        else:
            self.time = self.rng.uniform(0.2, latest * self.stage.duration)
            self.enter(spot, self.rng.choice(("left", "right")))

    def enter(self, spot: float, side: Side) -> None:
        end = self.time + self.stage.seconds(3, 6.5)
        self.actor.place.add(self.time, self._outside(side))
        self.actor.place.add(end, spot)
        if end < self.stage.duration - 0.3:
            self.stage.events.append(Event("enter", self.actor, Span(self.time, end), side))
        self._halt(end)

    def _halt(self, time: float) -> None:
        """It has come here, and pauses: where one doing ends and the next begins must be seen."""
        self.time = self.since = time
        self.moved = True
        self._stay(self.stage.seconds(0.8, 1.3))

    def _outside(self, side: Side) -> float:
        return -self.actor.half if side == "left" else self.stage.aspect + self.actor.half

    def finish(self, may_turn: bool) -> None:
        """Leave, if there is time, or stay."""
        if self.rng.random() < 0.75 and self._fits(9):
            if may_turn and not self.moved:
                self._turn()
            self._wait()
            self._leave()
        else:
            self._stay(0)

    def _fits(self, seconds: float) -> bool:
        return self.time + seconds * self.stage.pace < self.stage.duration

    def _stay(self, seconds: float) -> None:
        self.time += seconds
        self.actor.place.add(self.time, self.actor.place.values[-1])

    def _wait(self) -> None:
        if self._fits(10):
            self._stay(self.stage.seconds(2.8, 9))

    def _depart(self) -> None:
        """About to move: what lies behind was a stop, if it moved before."""
        if self.moved and self.time - self.since > 0.2:
            asked = not self.busy and self.time - self.since > 2.5
            self.stage.events.append(Event("stop", self.actor, Span(self.since, self.time), asked=asked))
        self.actor.place.add(self.time, self.actor.place.values[-1])
        self.busy = False

    def _arrive(self, time: float, place: float) -> None:
        self.actor.place.add(time, place)
        self._halt(time)

    def _leave(self) -> None:
        side: Side = self.rng.choice(("left", "right"))
        end = self.time + self.stage.seconds(3, 6.5)
        if end > self.stage.duration - 0.2:
            return self._stay(0)
        self._depart()
        self.stage.events.append(Event("leave", self.actor, Span(self.time, end), side))
        self.actor.place.add(end, self._outside(side))
        self.time = end
        return None

    def _turn(self) -> None:
        """Some way off, and back."""
        here, aspect = self.actor.place.values[-1], self.stage.aspect
        way = self.rng.uniform(0.3, 0.5) * (1 if here < aspect / 2 else -1)
        there = min(max(here + way, 0.15), aspect - 0.15)
        half = self.stage.seconds(2, 3.5)
        if abs(there - here) < 0.2 or not self._fits(2 * half / self.stage.pace + 1):
            return
        self._depart()
        self.stage.events.append(Event("turn", self.actor, Span(self.time, self.time + 2 * half)))
        self.actor.place.add(self.time + half, there)
        self._arrive(self.time + 2 * half, here)

    def _handle(self) -> None:
        """Go to something, pick it up, carry it on, and perhaps put it down."""
        if not self._fits(11) or self.held:
            return
        here, aspect = self.actor.place.values[-1], self.stage.aspect
        direction = 1 if here < aspect / 2 else -1
        spot = min(max(here + direction * self.rng.uniform(0.15, 0.45), 0.3), aspect - 0.3)
        self.held = item = self.stage.add_item(self.actor.lane, spot + direction * _REACH)
        self._go(spot)
        start, taken = self._crouch()
        self.stage.events.append(Event("pick up", self.actor, Span(start, self.time), other=item))
        if self.rng.random() < 0.75 and self._fits(11):
            self._go(min(max(spot - direction * self.rng.uniform(0.25, 0.6), 0.3), aspect - 0.3))
            start, dropped = self._crouch()
            self.stage.events.append(Event("put down", self.actor, Span(start, self.time), other=item))
            item.carrier.append((taken, dropped, self.actor))
            item.place.add(dropped - 0.01, item.place.values[-1])
            item.place.add(dropped, self.actor.place.values[-1] + direction * _REACH)
            self.held = None
        else:
            item.carrier.append((taken, self.stage.duration + 1, self.actor))

    def _go(self, spot: float) -> None:
        self._depart()
        speed = 0.12 / self.stage.pace
        self._arrive(self.time + max(1.0, abs(spot - self.actor.place.values[-1]) / speed / 2), spot)

    def _crouch(self) -> tuple[float, float]:
        """Down and up again; when it began, and the middle, when hands are on the ground."""
        start, length = self.time, self.stage.seconds(2.8, 4.5)
        for part, value in ((0, 0), (0.25, 1), (0.75, 1), (1, 0)):
            self.actor.crouch.add(start + part * length, value)
        self.busy = True
        self._stay(length)
        return start, start + length / 2


def _colour(rng: random.Random, stage: _Stage, composition: bool | None) -> None:
    """Give everything its colour, no two alike of a kind; the held-out combinations decide which."""
    shared = rng.sample(list(COLOURS), rng.randint(3, 4))  # few, so that colour alone seldom tells
    for actor in stage.actors:
        done = [event for event in stage.events if event.actor is actor or event.other is actor]
        taken = {other.colour for other in stage.actors if other.kind == actor.kind}
        free = [c for c in rng.sample(shared, len(shared)) if c not in taken]
        free += [c for c in rng.sample(list(COLOURS), len(COLOURS)) if c not in taken and c not in free]
        actor.colour = _pick(free, actor, done, composition)


def _pick(free: Sequence[str], actor: Actor, done: Sequence[Event], composition: bool | None) -> str:
    def rare(colour: str) -> int:
        return sum(held_out(actor.kind, colour, event.action) for event in done if event.actor is actor)

    if composition is None:
        return free[0]
    wanted: Callable[[str], bool] = (lambda c: rare(c) > 0) if composition else (lambda c: rare(c) == 0)
    return next((colour for colour in free if wanted(colour)), free[0])


def is_held_out(event: Event) -> bool:
    """Whether the event's combination of kind, colour and action is kept out of training."""
    return held_out(event.actor.kind, event.actor.colour, event.action)
