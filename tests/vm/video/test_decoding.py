"""Choosing which packets carry the frames on screen, without decoding any."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vm.video.decoding import mark, plan_runs


@dataclass
class FakePacket:
    pts: int
    dts: int


@st.composite
def streams(draw):
    """Packets in decoding order, reordered by up to 16 frames as the codecs allow, uneven in time."""
    gaps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=150))
    pts = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    depth = draw(st.integers(0, 15))
    order = sorted(range(len(pts)), key=lambda n: n + draw(st.integers(0, depth)))
    first = pts[0]
    dts = [min([pts[place], *(pts[n] for n in order[place:])]) for place in range(len(pts))]
    packets = [FakePacket(pts[n], min(dts[place:])) for place, n in enumerate(order)]
    targets = draw(st.sets(st.integers(first, pts[-1] + 60), min_size=1, max_size=20))
    return packets, tuple(sorted(targets))


@given(streams())
def test_every_target_is_shown_by_the_last_frame_at_or_before_it(stream):
    packets, targets = stream
    shown = {target: packet.pts for packet, marks in mark(packets, targets) for target in marks}
    assert shown == {target: max(p.pts for p in packets if p.pts <= target) for target in targets}


@given(streams())
def test_marked_packets_stay_in_decoding_order_and_start_at_the_first(stream):
    packets, targets = stream
    fed = [packet for packet, _ in mark(packets, targets)]
    assert fed == packets[: len(fed)]


def test_nothing_is_read_far_past_the_last_frame_needed():
    read = []

    def endless():
        n = 0
        while True:
            read.append(n)
            yield FakePacket(n, n)
            n += 1

    list(mark(endless(), (3, 50)))
    assert len(read) < 100


@given(st.sets(st.integers(0, 1000), min_size=1), st.sets(st.integers(0, 1000), min_size=1))
def test_runs_start_at_the_last_seek_point_before_their_targets(targets, points):
    keys = tuple(sorted(points))
    runs = plan_runs(sorted(targets), keys)
    assert sorted(t for run in runs for t in run.targets) == sorted(targets)
    for run in runs:
        for target in run.targets:
            assert run.key == 0 or keys[run.key] <= target
            assert run.key + 1 == len(keys) or target < keys[run.key + 1]
