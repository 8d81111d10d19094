import os
import signal
import threading

import pytest

from worker.interrupts import interrupts_held_back


def _interrupt(done: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    done.append("whole")


def _interrupt_held_back(done: list[str]) -> None:
    with interrupts_held_back():
        _interrupt(done)
    done.append("went on")


def test_an_interrupt_waits_for_the_end_of_what_it_would_have_cut():
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupt_held_back(done)
    assert done == ["whole"]


def test_afterwards_interrupts_come_at_once_again():
    done: list[str] = []
    with interrupts_held_back():
        pass
    with pytest.raises(KeyboardInterrupt):
        _interrupt(done)
    assert done == []


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
