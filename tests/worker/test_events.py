import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.events import BORDER_SECONDS, SAME_IOU, Stretch, events, is_border, same_event

times = st.integers(0, 600).map(lambda tenths: tenths / 8)  # exact in binary, so that shifts change nothing


@st.composite
def stretches(draw: st.DrawFn) -> Stretch:
    begin, end = sorted((draw(times), draw(times)))
    return Stretch(begin, end, draw(st.booleans()), draw(st.booleans()))


several = st.lists(stretches(), min_size=1, max_size=12)


def _shifted(stretch: Stretch, by: float) -> Stretch:
    return Stretch(stretch.start + by, stretch.end + by, stretch.cut_before, stretch.cut_after)


def _partition(seen: list[Stretch], order: list[int]) -> set[frozenset[int]]:
    """The events of sightings that come in another order, by their places in the given one."""
    return {frozenset(order[place] for place in event) for event in events([seen[n] for n in order])}


@given(stretches())
def test_a_sighting_is_of_its_own_event(one: Stretch):
    assert same_event(one, one)


@given(stretches(), stretches())
def test_two_are_of_one_event_whichever_is_seen_first(one: Stretch, other: Stretch):
    assert same_event(one, other) == same_event(other, one)


@given(stretches(), stretches(), st.sampled_from([1, 3600, 1_700_000_000]))
def test_the_clock_they_share_does_not_matter(one: Stretch, other: Stretch, by: float):
    assert same_event(one, other) == same_event(_shifted(one, by), _shifted(other, by))


@given(stretches(), stretches())
def test_what_is_further_apart_than_a_border_is_wide_is_never_one_event(one: Stretch, other: Stretch):
    if max(one.start, other.start) - min(one.end, other.end) > BORDER_SECONDS:
        assert not same_event(one, other)


@given(stretches(), stretches())
def test_without_a_border_only_what_they_share_counts(one: Stretch, other: Stretch):
    whole, another = Stretch(one.start, one.end), Stretch(other.start, other.end)
    assert same_event(whole, another) == (whole.iou(another) >= SAME_IOU)


@given(several, st.randoms())
@example([Stretch(0, 4), Stretch(8, 12), Stretch(1, 11)], None)
def test_in_whatever_order_sightings_come_they_make_the_same_events(seen: list[Stretch], shuffled):
    order = list(range(len(seen)))
    if shuffled:
        shuffled.shuffle(order)
    else:
        order.reverse()
    assert _partition(seen, order) == _partition(seen, sorted(order))


@given(several)
def test_every_sighting_is_in_one_event_and_hangs_together_with_it(seen: list[Stretch]):
    found = events(seen)
    assert sorted(place for event in found for place in event) == list(range(len(seen)))
    for event in found:
        reached = {event[0]}
        for _ in event:
            reached |= {n for n in event if any(same_event(seen[n], seen[m]) for m in reached)}
        assert reached == set(event)
    for event in found:
        for other in found:
            if other is not event:
                assert not any(same_event(seen[n], seen[m]) for n in event for m in other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Stretch(0, 10), Stretch(2, 10), True),
        (Stretch(0, 10), Stretch(8, 18), False),
        (Stretch(50, 60, cut_after=True), Stretch(60.5, 70, cut_before=True), True),
        (Stretch(50, 60, cut_after=True), Stretch(61.5, 70, cut_before=True), False),
        (Stretch(50, 60), Stretch(60.5, 70), False),  # one after the other, with no border in between
        (Stretch(145, 150, cut_after=True), Stretch(145, 190), True),  # a window cut what the next has whole
        (Stretch(0, 10, cut_before=True), Stretch(10.5, 20), False),
    ],
)
def test_an_event_that_a_border_cut_is_one(one: Stretch, other: Stretch, same: bool):
    assert same_event(one, other) is same


def test_what_ends_almost_at_a_border_may_have_been_cut_there():
    assert is_border(59.2, [0, 60])
    assert is_border(0.8, [0, 60])
    assert not is_border(58.8, [0, 60])
