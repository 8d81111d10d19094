import os
import signal
import threading
from collections.abc import Iterator

import pytest

from worker.interrupts import interrupts_held_back


def _interrupt(done: list[str], number: int) -> None:
    os.kill(os.getpid(), number)
    done.append("whole")


def _interrupt_held_back(done: list[str], number: int) -> None:
    with interrupts_held_back():
        _interrupt(done, number)
    done.append("went on")


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal that raises KeyboardInterrupt, as it does in the program."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_an_interrupt_waits_for_the_end_of_what_it_would_have_cut(number: int):
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupt_held_back(done, number)
    assert done == ["whole"]


def test_afterwards_interrupts_come_at_once_again(number: int):
    done: list[str] = []
    with interrupts_held_back():
        pass
    with pytest.raises(KeyboardInterrupt):
        _interrupt(done, number)
    assert done == []


def test_what_somebody_wants_done_instead_is_done_at_the_end(number: int):
    done: list[str] = []
    signal.signal(number, lambda *_: done.append("ending gently"))
    _interrupt_held_back(done, number)
    assert done == ["whole", "ending gently", "went on"]


def test_a_failure_within_is_raised_as_it_is():
    with pytest.raises(ValueError, match="broken"), interrupts_held_back():
        raise ValueError("broken")


def test_other_threads_are_left_alone():
    handlers = []

    def work() -> None:
        with interrupts_held_back():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]
