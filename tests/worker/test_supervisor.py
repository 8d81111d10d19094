import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PATIENCE = 30.0
SUPERVISE = """
import sys
from worker import supervisor
supervisor._FIRST_PAUSE = 0.1
supervisor.supervise({name: [sys.executable, "-c", sys.argv[1]] for name in ("a", "b")})
"""
CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(1, f"{os.getpid()}\\n".encode())  # in one piece: both write to the same pipe
time.sleep(600)
"""


@pytest.fixture
def supervised() -> Iterator[subprocess.Popen]:
    """A supervisor of two processes, which print their numbers when they start."""
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, CHILD],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    yield process
    process.kill()
    process.wait()


def _next(process: subprocess.Popen) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_process_that_dies_is_started_again(supervised: subprocess.Popen):
    first, second = _next(supervised), _next(supervised)
    os.kill(first, signal.SIGKILL)
    third = _next(supervised)
    assert third not in (first, second)
    assert psutil.pid_exists(second)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_when_told_to_stop_it_ends_all_and_then_itself(supervised: subprocess.Popen, number: int):
    pids = [_next(supervised), _next(supervised)]
    supervised.send_signal(number)
    assert supervised.wait(PATIENCE) == 0
    assert all(map(_gone, pids))


def test_no_process_outlives_a_supervisor_that_is_killed(supervised: subprocess.Popen):
    pids = [_next(supervised), _next(supervised)]
    supervised.kill()
    assert all(map(_gone, pids))
