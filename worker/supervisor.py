"""Keeps worker processes running: starts them, starts them anew when they die, ends them gently.

A message that is no JSON ends a Celery worker; whatever it was at comes again by the sweep.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds before a process is started again
_PR_SET_PDEATHSIG = 1
_HEALTHY = 60.0  # seconds after which a start counts as having worked


@dataclass
class _Child:
    """One process that is to run. Times on the monotonic clock."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    pause: float = field(default=_FIRST_PAUSE)

    def look(self, now: float) -> None:
        """Starts it where it is time, and notices its end."""
        if self.process is None:
            if now >= self.due:
                # In a session of its own: a Ctrl-C at the terminal reaches it through us alone.
                self.process = subprocess.Popen(  # noqa: S603 - our own command line
                    self.arguments, start_new_session=True, preexec_fn=partial(_end_with, os.getpid())
                )
                self.started = now
            return
        if (status := self.process.poll()) is None:
            return
        self.pause = _FIRST_PAUSE if now - self.started > _HEALTHY else min(_LONGEST_PAUSE, self.pause * 2)
        log.error("%s ended with status %s; it is started again in %.0f s", self.name, status, self.pause)
        self.process, self.due = None, now + self.pause


def supervise(commands: dict[str, Sequence[str]]) -> None:
    """Runs these commands, by name, until a SIGTERM or SIGINT; then ends all of them and waits.

    The first signal lets what is being worked on end; a second one does not.
    """
    children = [_Child(name, arguments) for name, arguments in commands.items()]
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for child in children:
            if child.process and child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGQUIT)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not asked:
            for child in children:
                child.look(time.monotonic())
            time.sleep(0.2)
        for child in children:
            if child.process:
                child.process.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _end_with(parent: int) -> None:
    """Has the kernel end a new process when its parent is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(0)


def celery(*arguments: str) -> list[str]:
    """The command line of a Celery process of this program."""
    return [sys.executable, "-m", "celery", "--app=worker.celery_app", *arguments]
