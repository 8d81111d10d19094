"""What can be asked of a scene: queries in many wordings, questions of three plan modes, options, truth."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vm.moments import Span
from vm.result import Route
from vm.scenes.drawing import Look
from vm.scenes.script import Actor, Event, Script, is_held_out
from vm.scenes.vocabulary import COLOURS, ITEMS, KINDS, MOBILE, PLACES, Kind

_NOUNS: dict[str, tuple[str, ...]] = {
    "bicycle": ("bicycle", "bike"),
    "box": ("box", "crate"),
    "bag": ("bag", "handbag"),
    "person": ("person", "human"),
    "car": ("car", "vehicle"),
}

# (as in "the car …", as in "does the car …"); {o} is what it is done with or to, {s} a side.
_VERBS: dict[str, tuple[tuple[str, str], ...]] = {
    "enter": (
        ("enters", "enter"),
        ("comes in", "come in"),
        ("arrives", "arrive"),
        ("comes into view", "come into view"),
        ("enters the scene", "enter the scene"),
        ("enters from the {s}", "enter from the {s}"),
        ("comes in from the {s}", "come in from the {s}"),
    ),
    "leave": (
        ("leaves", "leave"),
        ("goes away", "go away"),
        ("goes out of view", "go out of view"),
        ("leaves the scene", "leave the scene"),
        ("departs", "depart"),
        ("leaves to the {s}", "leave to the {s}"),
        ("goes out to the {s}", "go out to the {s}"),
    ),
    "stop": (
        ("stops", "stop"),
        ("waits", "wait"),
        ("stands still", "stand still"),
        ("stops and waits", "stop and wait"),
        ("pauses", "pause"),
    ),
    "turn": (
        ("turns around", "turn around"),
        ("turns back", "turn back"),
        ("goes off and comes back", "go off and come back"),
        ("makes a turn", "make a turn"),
    ),
    "pick up": (
        ("picks up {o}", "pick up {o}"),
        ("lifts {o}", "lift {o}"),
        ("takes {o}", "take {o}"),
        ("picks {o} up", "pick {o} up"),
    ),
    "put down": (
        ("puts down {o}", "put down {o}"),
        ("sets down {o}", "set down {o}"),
        ("puts {o} down", "put {o} down"),
        ("lays {o} on the ground", "lay {o} on the ground"),
    ),
    "meet": (
        ("meets {o}", "meet {o}"),
        ("greets {o}", "greet {o}"),
        ("stands together with {o}", "stand together with {o}"),
    ),
    "open": (("opens", "open"), ("is opened", "get opened")),
    "close": (("closes", "close"), ("shuts", "shut"), ("is closed", "get closed")),
}

_ASK_WHEN = (
    "When does {infinitive}?",
    "When does {infinitive}?",
    "At what time does {infinitive}?",
    "Find the moment when {clause}.",
    "Show me where {clause}.",
    "Locate the part in which {clause}.",
    "At which point does {infinitive}?",
    "Find: {clause}.",
)


@dataclass(frozen=True)
class SceneQuestion:
    """A question and everything that is true about it.

    Attributes:
        question: as a user would put it.
        mode: which of the three plans it calls for.
        query: what is to be localised; None where nothing is.
        spans: where it is to be found, seconds.
        options, answer: what to choose from, and the right one of them.
        held_out: whether it is about a combination that training never showed.
        topic: what it is about, for reports.
    """

    question: str
    mode: Route
    topic: str
    query: str | None = None
    spans: tuple[Span, ...] = ()
    options: tuple[str, ...] = ()
    answer: str | None = None
    held_out: bool = False


def name(actor: Actor, rng: random.Random) -> str:
    """An actor by colour and kind."""
    if actor.kind == "person":
        form = rng.choice(
            ("the person in {0}", "the person in {0}", "the {0} person", "the person wearing {0}")
        )
        return form.format(actor.colour)
    return f"the {actor.colour} {_noun(actor.kind, rng)}"


def _noun(kind: Kind, rng: random.Random) -> str:
    return rng.choice((kind, *_NOUNS.get(kind, (kind,))))


def ask_about(script: Script, look: Look, rng: random.Random) -> tuple[SceneQuestion, ...]:
    """One question of each mode, as far as the scene gives one; those about held-out combinations first."""
    moments = [*when_questions(script, rng)]
    details = [*detail_questions(script, rng)]
    overall = [*overall_questions(script, look, rng)]
    chosen = []
    for some in (moments, details, overall):
        rng.shuffle(some)
        some.sort(key=lambda question: not question.held_out)
        chosen += some[:1]
    return tuple(chosen)


def when_questions(script: Script, rng: random.Random) -> Iterator[SceneQuestion]:
    """Where something happens: each event that words can single out, in one wording."""
    for event in script.events:
        subject = name(event.actor, rng)
        alone = _alone(script, event, _same_actor)
        if not event.asked or not (alone or _alone(script, event, _same_side)):
            continue
        if alone and rng.random() < 0.25 and _alone(script, event, _same_kind):
            subject = f"a {_noun(event.actor.kind, rng)}"
        yield _when(event, subject, rng, needs_side=not alone)


def _when(event: Event, subject: str, rng: random.Random, needs_side: bool = False) -> SceneQuestion:
    clause, infinitive = clauses(event, subject, rng, needs_side)
    question = rng.choice(_ASK_WHEN).format(clause=clause, infinitive=infinitive)
    return SceneQuestion(question, "ground", event.action, clause, (event.span,), held_out=is_held_out(event))


def clauses(
    event: Event, subject: str, rng: random.Random, needs_side: bool = False, thing: str | None = None
) -> tuple[str, str]:
    """The event in words: "the red car leaves", "the red car leave"."""
    verbs = [verb for verb in _VERBS[event.action] if "{s}" in verb[0] or not needs_side]
    thing = thing or (_thing(event.other, rng) if event.other else "")
    finite, infinitive = (form.format(o=thing, s=event.side) for form in rng.choice(verbs))
    return f"{subject} {finite}", f"{subject} {infinitive}"


def _thing(other: Actor, rng: random.Random) -> str:
    if other.kind == "person":
        return name(other, rng) if rng.random() < 0.7 else "another person"
    noun = _noun(other.kind, rng)
    return rng.choice((f"the {other.colour} {noun}", f"the {noun}", f"a {noun}", "something"))


def _same_actor(event: Event, other: Event) -> bool:
    return event.action == other.action and event.actor is other.actor


def _same_side(event: Event, other: Event) -> bool:
    return event.side is not None and _same_actor(event, other) and event.side == other.side


def _same_kind(event: Event, other: Event) -> bool:
    return event.action == other.action and event.actor.kind == other.actor.kind


def _alone(script: Script, event: Event, alike: Callable[[Event, Event], bool]) -> bool:
    return sum(alike(event, other) for other in script.events) == 1


def detail_questions(script: Script, rng: random.Random) -> Iterator[SceneQuestion]:
    """What can be told only by one who has found the moment."""
    for event in script.events:
        if not event.asked:
            continue
        if _alone(script, event, _same_kind) and event.action != "meet":
            yield _which_colour(script, event, rng)
        if not _alone(script, event, _same_actor):
            continue
        if event.side:
            yield _which_side(event, rng)
        if event.action in ("pick up", "put down"):
            yield _what_thing(event, rng)
            yield _thing_colour(script, event, rng)
        if event.action == "meet" and event.other:
            yield _whom(script, event, rng)


def _detail(event: Event, question: str, query: str, options: Sequence[str], answer: str) -> SceneQuestion:
    rare = is_held_out(event)
    return SceneQuestion(
        question, "ground-answer", event.action, query, (event.span,), tuple(options), answer, rare
    )


def _which_colour(script: Script, event: Event, rng: random.Random) -> SceneQuestion:
    noun = _noun(event.actor.kind, rng)
    clause, _ = clauses(event, f"a {noun}", rng)
    asked = clause.removeprefix("a ")
    question = rng.choice(
        ("What colour is the {0} that {1}?", "Which colour does the {0} that {1} have?")
    ).format(noun, asked.removeprefix(f"{noun} "))
    options = _colour_options(script, event.actor, rng)
    return _detail(event, question, clause, options, event.actor.colour)


def _colour_options(script: Script, actor: Actor, rng: random.Random) -> list[str]:
    """Four, those first that others of the kind have."""
    near = [other.colour for other in script.actors if other.kind == actor.kind]
    near += [other.colour for other in script.actors]
    return _options(actor.colour, near, list(COLOURS), rng)


def _options(right: str, near: Iterable[str], others: Sequence[str], rng: random.Random) -> list[str]:
    wrong = list(dict.fromkeys((*near, *rng.sample(others, len(others)))))
    chosen = [right, *[option for option in wrong if option != right][:3]]
    rng.shuffle(chosen)
    return chosen


def _which_side(event: Event, rng: random.Random) -> SceneQuestion:
    subject = name(event.actor, rng)
    verbs = [verb for verb in _VERBS[event.action] if "{s}" not in verb[0]]
    finite, infinitive = rng.choice(verbs)
    if event.action == "enter":
        question = f"From which side does {subject} {infinitive}?"
    else:
        question = f"To which side does {subject} {infinitive}?"
    options = ["left", "right"]
    rng.shuffle(options)
    return _detail(event, question, f"{subject} {finite}", options, str(event.side))


def _what_thing(event: Event, rng: random.Random) -> SceneQuestion:
    assert event.other is not None
    subject = name(event.actor, rng)
    clause, infinitive = clauses(event, subject, rng, thing="something")
    question = f"What does {infinitive.replace(' something', '', 1)}?"
    options = _options(event.other.kind, ITEMS, MOBILE[:4], rng)
    return _detail(event, question, clause, options, event.other.kind)


def _thing_colour(script: Script, event: Event, rng: random.Random) -> SceneQuestion:
    assert event.other is not None
    subject = name(event.actor, rng)
    noun = _noun(event.other.kind, rng)
    clause, _ = clauses(event, subject, rng, thing=f"a {noun}")
    question = f"What colour is the {noun} that {clause.replace(f' a {noun}', '', 1)}?"
    return _detail(event, question, clause, _colour_options(script, event.other, rng), event.other.colour)


def _whom(script: Script, event: Event, rng: random.Random) -> SceneQuestion:
    assert event.other is not None
    subject = name(event.actor, rng)
    clause, infinitive = clauses(event, subject, rng, thing="another person")
    question = f"Whom does {infinitive.replace(' another person', '', 1)}?"
    near = [other.colour for other in script.actors if other.kind == "person" and other is not event.actor]
    others = [colour for colour in COLOURS if colour != event.actor.colour]
    options = [f"the person in {colour}" for colour in _options(event.other.colour, near, others, rng)]
    return _detail(event, question, clause, options, f"the person in {event.other.colour}")


def overall_questions(script: Script, look: Look, rng: random.Random) -> Iterator[SceneQuestion]:
    """What the video as a whole tells."""
    yield _whole(
        rng.choice(("Where does this take place?", "What kind of place is this?", "Where was this filmed?")),
        "place",
        _options(look.place, (), PLACES, rng),
        look.place,
    )
    yield _seen(script, rng)
    yield _is_there(script, rng)
    yield from _count(script, rng)
    for actor in script.actors:
        if sum(other.kind == actor.kind for other in script.actors) == 1:
            noun = _noun(actor.kind, rng)
            question = rng.choice(("What colour is the {0}?", "Which colour does the {0} have?")).format(noun)
            yield _whole(question, "colour", _colour_options(script, actor, rng), actor.colour)


def _whole(question: str, topic: str, options: Sequence[str], answer: str) -> SceneQuestion:
    return SceneQuestion(question, "answer", topic, options=tuple(options), answer=answer)


def _pairs(script: Script) -> set[tuple[str, str]]:
    return {(actor.colour, actor.kind) for actor in script.actors}


def _seen(script: Script, rng: random.Random) -> SceneQuestion:
    there = _pairs(script)
    right = rng.choice(sorted(there))
    kinds = [actor.kind for actor in script.actors] + list(KINDS)
    wrong = {(rng.choice(list(COLOURS)), rng.choice(kinds)) for _ in range(12)} - there
    named = [f"a {colour} {kind}" for colour, kind in sorted(wrong)]
    question = rng.choice(
        ("Which of these can be seen?", "What is shown in the video?", "Which of these appears?")
    )
    return _whole(question, "seen", _options(f"a {' '.join(right)}", (), named, rng), f"a {' '.join(right)}")


def _is_there(script: Script, rng: random.Random) -> SceneQuestion:
    there = _pairs(script)
    actor = rng.choice(script.actors)
    pair = (rng.choice(list(COLOURS)), actor.kind) if rng.random() < 0.6 else (actor.colour, actor.kind)
    options = ["yes", "no"]
    rng.shuffle(options)
    question = rng.choice(("Is there a {} {} in the video?", "Does a {} {} appear?")).format(*pair)
    return _whole(question, "presence", options, "yes" if pair in there else "no")


def _count(script: Script, rng: random.Random) -> Iterator[SceneQuestion]:
    kind = rng.choice(script.actors).kind
    count = sum(actor.kind == kind for actor in script.actors)
    if count <= 4:
        noun = {"person": "persons", "box": "boxes"}.get(kind, f"{kind}s")
        question = rng.choice(("How many {} are there in the video?", "How many {} appear?")).format(noun)
        yield _whole(question, "count", ["1", "2", "3", "4"], str(count))


def tell(event: Event, rng: random.Random) -> str:
    """One sentence about an event, as a caption would have it."""
    clause, _ = clauses(event, name(event.actor, rng), rng)
    return clause
