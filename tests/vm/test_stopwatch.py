import pytest

from vm.stopwatch import Stopwatch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_stage_is_counted_without_what_nests_in_it(clock: Clock) -> None:
    watch = Stopwatch(clock)
    with watch.measure("grounder"):
        clock.now += 1
        with watch.measure("vision"):
            clock.now += 10
        clock.now += 100
    assert watch.lap() == {"grounder": 101, "vision": 10, "total": 111}


def test_a_stage_measured_twice_is_summed_and_pauses_are_not(clock: Clock) -> None:
    watch = Stopwatch(clock)
    for _ in range(2):
        with watch.measure("decode"):
            clock.now += 2
        clock.now += 50
    assert watch.lap() == {"decode": 4, "total": 4}


def test_a_lap_starts_anew(clock: Clock) -> None:
    watch = Stopwatch(clock)
    with watch.measure("planner"):
        clock.now += 1
    watch.lap()
    assert watch.lap() == {"total": 0}


def test_a_stage_that_fails_is_still_counted_and_ended(clock: Clock) -> None:
    watch = Stopwatch(clock)

    def fail() -> None:
        with watch.measure("verifier"), watch.measure("decode"):
            clock.now += 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with watch.measure("answerer"):
        clock.now += 1
    assert watch.lap() == {"decode": 3, "verifier": 0, "answerer": 1, "total": 4}
