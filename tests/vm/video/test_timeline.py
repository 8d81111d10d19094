"""Which frame stands for which index."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from vm.video.timeline import Stamp, are_trusted, from_count, from_index, from_packets

MILLISECOND = Fraction(1, 1000)


def of(*pts: int, declared: Fraction | None = None, keys: tuple[int, ...] = (0,), seekable: bool = True):
    stamps = [Stamp(t, t, t in keys) for t in pts]
    return from_packets(stamps, MILLISECOND, declared, pts[0], seekable)


@given(
    st.integers(1, 500),
    st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(10)]),
    st.integers(-5000, 10**13),
)
def test_frames_rounded_to_milliseconds_keep_their_place(count, rate, start):
    pts = [start + round(n / rate / MILLISECOND) for n in range(count)]
    timeline = of(*pts, declared=rate)
    assert timeline.frame_rate == rate
    assert timeline.duration == float(count / rate)
    assert [timeline.target(n) for n in range(count)] == pts


@given(st.lists(st.integers(-9, 9), min_size=50, max_size=50))
def test_jitter_of_less_than_half_a_frame_changes_no_index(jitter):
    jitter[0] = jitter[-1] = 0
    pts = [40 * n + j for n, j in enumerate(jitter)]
    assert [of(*pts, declared=Fraction(25)).target(n) for n in range(50)] == pts


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=60))
def test_an_uneven_rhythm_shows_what_is_on_screen_at_that_time(gaps):
    pts = [sum(gaps[:n]) for n in range(len(gaps))]
    timeline = of(*pts)
    for index in range(timeline.frame_count):
        shown = timeline.target(index)
        if not timeline.steady:
            now = index / timeline.frame_rate / MILLISECOND
            assert shown == max(t for t in pts if t <= now + Fraction(1, 2))


def test_a_declared_rate_that_the_frames_contradict_is_measured_instead():
    assert of(0, 100, 200, 900, 1000, declared=Fraction(1000)).frame_rate == 4


def test_an_index_without_presentation_times_aims_between_two_frames():
    timeline = from_index(range(-80, 3920, 40), [-80, 720], MILLISECOND, Fraction(25), 0)
    assert timeline.steady
    assert timeline.pts is None
    assert all(40 * n <= timeline.target(n) < 40 * (n + 1) for n in range(100))


def test_frames_before_the_first_that_decodes_do_not_count():
    stamps = [Stamp(t, t, t == 120) for t in (0, 40, 80, 120, 160)]
    timeline = from_packets(stamps, MILLISECOND, Fraction(25), 120, True)
    assert (timeline.frame_count, timeline.origin, timeline.keys) == (2, 120, (120,))


def test_a_container_that_cannot_seek_has_one_starting_point():
    assert of(0, 40, 80, keys=(0, 40, 80), seekable=False).keys == (0,)


def test_counted_frames_are_one_tick_apart():
    timeline = from_count(50, Fraction(10))
    assert timeline.duration == 5.0
    assert timeline.seconds(timeline.target(7)) == 0.7


def test_timestamps_that_are_missing_repeated_or_run_backwards_are_not_trusted():
    assert are_trusted([Stamp(0, 0, True), Stamp(80, 40, False), Stamp(40, 80, False)], reorders=True)
    assert not are_trusted([Stamp(0, 0, True), Stamp(None, 40, False)], reorders=False)
    assert not are_trusted([Stamp(0, 0, True), Stamp(0, 40, False)], reorders=False)
    assert not are_trusted([Stamp(80, 80, True), Stamp(0, 0, True)], reorders=False)


def test_a_codec_that_reorders_but_whose_times_do_not_is_not_trusted():
    assert not are_trusted([Stamp(0, 0, True), Stamp(40, 40, False)], reorders=True)
