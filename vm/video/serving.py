"""The process that decoders come from: `python -m vm.video.serving PARENT`, its orders on standard input.

It has imported all that decoding needs, which takes seconds, and forks a process for each file, which
takes milliseconds. It never opens a file itself, so whoever reads one starts out clean. It has one
thread, or forking would not be safe.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import time
from types import FrameType

from vm.video.answering import answer_requests
from vm.video.channel import OUT_OF_MEMORY, Channel
from vm.video.confinement import close_files_from, confine, end_with_parent
from vm.video.limits import Cage

_ORDER_BYTES = 4096
_FAILED = 1
_POLL_SECONDS = 0.002


def main() -> None:
    """Obeys until the parent is gone or hangs up."""
    _end_with(int(sys.argv[1]))
    gc.freeze()  # or collecting garbage would copy to every child what it shares with us
    control = socket.socket(fileno=0)
    while True:
        order, passed, _, _ = socket.recv_fds(control, _ORDER_BYTES, 1)
        if not order:
            return
        done = _fork(passed[0], Cage(**json.loads(order))) if passed else _finish(**json.loads(order))
        control.sendall(json.dumps(done).encode())


def _end_with(parent: int) -> None:
    """Leaves with the parent process; the thread of it that started us may end before."""

    def leave_if_alone(number: int, frame: FrameType | None) -> None:
        if os.getppid() != parent:
            os._exit(0)

    signal.signal(signal.SIGUSR1, leave_if_alone)
    end_with_parent(parent, signal.SIGUSR1)


def _fork(channel: int, cage: Cage) -> int:
    """A new decoder's process id."""
    template = os.getpid()
    pid = os.fork()
    if pid:
        os.close(channel)
        return pid
    status = _FAILED
    try:
        _decode(template, channel, cage)
    except (EOFError, ConnectionError):
        status = 0
    except MemoryError:
        status = OUT_OF_MEMORY
    finally:
        os._exit(status)  # whatever happens, never back into the orders


def _decode(template: int, channel: int, cage: Cage) -> None:
    """A decoder's whole life. What it says besides its answers is nobody's concern: it may be made up."""
    end_with_parent(template, signal.SIGKILL)
    os.dup2(channel, 0)  # in the place of our orders
    os.dup2(1, 2)
    close_files_from(3)
    confine(cage)
    answer_requests(Channel(socket.socket(fileno=0)))


def _finish(pid: int, patience: float) -> int:
    """A decoder's exit status, as `subprocess` gives it; after `patience` seconds it is killed."""
    until = time.monotonic() + patience
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
