import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.scenes.clip import Clip, clips
from vm.scenes.script import Script, is_held_out, write_script
from vm.scenes.vocabulary import ACTIONS, COLOURS, MOBILE, held_out

scripts = st.builds(
    lambda seed, duration, aspect: write_script(random.Random(seed), duration, aspect, None),
    st.integers(0, 10**6),
    st.floats(10, 150),
    st.sampled_from((0.75, 1.0, 4 / 3, 16 / 9)),
)


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_every_event_lies_within_the_scene_and_lasts(script: Script) -> None:
    for event in script.events:
        assert 0 <= event.span.start <= event.span.end <= script.duration
        assert not event.asked or event.span.length > 1.5


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_who_enters_comes_from_outside_and_who_leaves_ends_there(script: Script) -> None:
    for event in script.events:
        if event.action in ("enter", "leave"):
            actor, (start, end) = event.actor, (event.span.start, event.span.end)
            outside = end if event.action == "leave" else start
            place = actor.place.at(outside)
            beyond = (
                place <= -actor.half + 1e-6
                if event.side == "left"
                else place >= script.aspect + actor.half - 1e-6
            )
            assert beyond


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_who_stops_stands_still_and_moves_before_and_after(script: Script) -> None:
    for event in script.events:
        if event.action == "stop" and event.asked:
            place = event.actor.place
            assert place.at(event.span.start) == pytest.approx(place.at(event.span.end))
            assert place.at(event.span.start - 0.5) != pytest.approx(place.at(event.span.start))
            assert place.at(event.span.end + 0.5) != pytest.approx(place.at(event.span.end))


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_what_is_picked_up_is_carried_from_the_middle_on(script: Script) -> None:
    for event in script.events:
        if event.action == "pick up":
            assert event.other is not None
            assert event.other.held_by(event.span.start) is None
            assert event.other.held_by(event.span.end) is event.actor


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_no_two_of_a_kind_have_the_same_colour(script: Script) -> None:
    named = [(actor.kind, actor.colour) for actor in script.actors]
    assert len(set(named)) == len(named)


def test_training_never_shows_a_held_out_combination() -> None:
    for clip in clips("train", 300):
        assert not any(map(is_held_out, clip.script.events))


def test_composition_clips_always_show_one() -> None:
    for clip in clips("test", 60, composition=True):
        assert any(map(is_held_out, clip.script.events))


def test_parts_and_pairs_of_held_out_combinations_are_seen_in_training() -> None:
    seen = {(e.actor.kind, e.actor.colour, e.action) for c in clips("train", 1500) for e in c.script.events}
    rare = {
        event
        for clip in clips("test", 300, composition=True)
        for e in clip.script.events
        if is_held_out(e)
        for event in [(e.actor.kind, e.actor.colour, e.action)]
    }

    assert rare
    for kind, colour, action in rare:
        assert any(k == kind and c == colour for k, c, _ in seen)
        assert any(k == kind and a == action for k, _, a in seen)
        assert any(c == colour and a == action for _, c, a in seen)


def test_about_one_combination_in_thirteen_is_held_out() -> None:
    shared = ("enter", "leave", "stop", "turn")
    every = [held_out(kind, colour, action) for kind in MOBILE for colour in COLOURS for action in shared]
    others = [held_out("door", colour, action) for colour in COLOURS for action in ACTIONS]
    assert 1 / 16 < sum(every) / len(every) < 1 / 10
    assert not any(others)


def test_longer_clips_have_longer_events() -> None:
    def mean(length: float) -> float:
        spans = [
            e.span.length for seed in range(60) for e in Clip(seed, None, length).script.events if e.asked
        ]
        return sum(spans) / len(spans)

    assert mean(150) > 1.5 * mean(20)
