import pytest
import torch

from vm.moments import Span
from vm.scenes.clip import clips
from vm.scenes.script import Actor, Event, Script
from vm.training.tiny.doings import (
    DOINGS,
    asked_doings,
    doing_weights,
    frame_doings,
    token_doings,
)
from vm.training.tiny.sights import SIGHTS, cell_labels, covered_cells, sight_weights


class _Clip:
    """Just enough of a clip."""

    def __init__(self, *events: Event) -> None:
        self.script = Script(10.0, 1.0, tuple(event.actor for event in events), events)


def _actor(kind: str, colour: str, place: float) -> Actor:
    actor = Actor(kind, 0.9, colour)  # type: ignore[arg-type]
    actor.place.add(0, place)
    return actor


@pytest.fixture
def clip() -> _Clip:
    car, dog = _actor("car", "red", 0.25), _actor("dog", "blue", 0.75)
    return _Clip(Event("enter", car, Span(2, 4)), Event("leave", dog, Span(6, 8)))


def test_a_patch_tells_what_goes_on_in_its_middle(clip: _Clip) -> None:
    labels = frame_doings(clip, Span(0, 10), 10)  # type: ignore[arg-type]

    assert labels.shape == (10, DOINGS)
    assert labels.any(1).nonzero()[:, 0].tolist() == [2, 3, 6, 7]
    assert labels.sum(1)[2] == 3  # kind and action, colour and action, kind and colour
    assert not torch.equal(labels[2], labels[6])


def test_coming_and_going_have_a_side_and_words_know_it_only_if_they_say_it() -> None:
    car = _actor("car", "red", 0.25)
    left, right = (Event("leave", car, Span(2, 4), side) for side in ("left", "right"))
    labels = [frame_doings(_Clip(event), Span(2, 4), 1)[0] for event in (left, right)]  # type: ignore[arg-type]
    assert [int(label.sum()) for label in labels] == [5, 5]
    sides = labels[0] != labels[1]
    assert (doing_weights()[sides] > 1).all()

    asked, known = asked_doings(left, "When does the red car leave?")
    assert not known[sides].any()
    asked, known = asked_doings(left, "When does the red car leave to the left?")
    assert known.all()
    assert torch.equal(asked, labels[0])


def test_a_stretch_is_told_in_its_own_patches(clip: _Clip) -> None:
    whole = frame_doings(clip, Span(0, 10), 10)  # type: ignore[arg-type]
    cut = frame_doings(clip, Span(2, 6), 4)  # type: ignore[arg-type]

    assert torch.equal(cut, whole[2:6])


def test_tokens_tell_of_whom_they_show_and_no_other(clip: _Clip) -> None:
    labels = token_doings(clip, Span(0, 10), (10, 3, 4)).view(10, 3, 4, DOINGS)  # type: ignore[arg-type]
    doing = frame_doings(clip, Span(0, 10), 10)  # type: ignore[arg-type]

    busy, idle = labels[2, :, :2].amax((0, 1)), labels[2, :, 3].amax(0)
    assert torch.equal(busy, doing[2])
    assert idle.sum() == 1  # the dog is there, and does nothing
    assert labels[6, :, 3].amax(0).sum() == 3


def test_those_who_meet_are_both_busy() -> None:
    first, second = _actor("person", "red", 0.4), _actor("person", "blue", 0.6)
    labels = frame_doings(_Clip(Event("meet", first, Span(0, 10), other=second)), Span(0, 10), 1)  # type: ignore[arg-type]

    assert labels.sum() == 5  # kind and action are the same for both


def test_an_actor_covers_the_cells_it_stands_in() -> None:
    ball = _actor("ball", "red", 0.125)
    cells = covered_cells(ball, 1.0, 0.0, 4, 4)

    assert cells.any(axis=0).tolist() == [True, False, False, False]
    assert cells[3, 0]


def test_what_leaves_the_picture_covers_nothing() -> None:
    assert not covered_cells(_actor("car", "red", -0.5), 1.0, 0.0, 4, 4).any()


def test_every_label_of_the_vision_tower_is_in_its_range_and_weighed() -> None:
    assert len(sight_weights()) == SIGHTS
    for clip in clips("validation", 5):
        labels = cell_labels(clip, clip.duration / 2, 3, 4)
        assert labels.shape == (12, SIGHTS)
        assert set(labels.unique().tolist()) <= {0.0, 1.0}
        assert (labels[:, -5:].sum(1) == 1).all()  # one place
