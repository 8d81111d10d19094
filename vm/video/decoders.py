"""Decoder processes, seen from the process that they work for: started, and made sure to be gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

from vm.video.channel import Channel
from vm.video.limits import Cage

# Importing everything takes 3 s, but many times that on a busy machine.
_START_SECONDS = 240.0
_REPLY_BYTES = 4096
# What Python needs of our environment to start; secrets are none of a decoder's business.
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PYTHONHOME")


class Decoders:
    """Starts a process for each file that is read.

    All are forked from one, the template, that has imported everything and reads no file; it is started
    when first needed and replaced should it die. Everything ends with this process, however that ends.
    For any number of threads; a process forked from this one gets a template of its own.
    """

    def __init__(self) -> None:
        self._template: _Template | None = None
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=partial(_start_anew, weakref.ref(self)))

    def warm_up(self) -> None:
        """Starts the template without waiting, so that the first file need not wait either."""
        self._living_template()

    def start(self, cage: Cage) -> Decoder:
        """A process that waits for the name of a file.

        Raises:
            ChildProcessError: none can be started here.
        """
        ours, theirs = _connection()
        with theirs:
            try:
                template, pid = self._fork(vars(cage), theirs.fileno())
            except BaseException:
                ours.close()
                raise
        return Decoder(template, pid, Channel(ours))

    def close(self) -> None:
        """Ends all that were started. They can be started again."""
        with self._lock:
            template, self._template = self._template, None
        if template:
            template.end()

    def _fork(self, cage: dict[str, Any], channel: int) -> tuple[_Template, int]:
        for _ in range(2):  # the first may have died since it was last needed
            template = self._living_template()
            try:
                return template, template.obey(cage, [channel])
            except (EOFError, OSError):
                continue
        raise ChildProcessError("the process that reads videos does not start; standard error may say why")

    def _living_template(self) -> _Template:
        with self._lock:
            if self._template is None or not self._template.end.alive:
                self._template = _Template()
            return self._template

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        template, self._template = self._template, None
        if template:
            template.disown()


class Decoder:
    """A process that reads one file.

    Attributes:
        pid: its process id.
        channel: to talk to it.
    """

    def __init__(self, template: _Template, pid: int, channel: Channel) -> None:
        self.pid = pid
        self.channel = channel
        self._template = template
        self._abandoned = weakref.finalize(self, template.abandoned.append, pid)

    def end(self, patience: float = 0.0) -> int | None:
        """Makes sure that the process is gone.

        Args:
            patience: seconds to wait for it to end of its own, so that the true cause is learnt.

        Returns:
            Its exit status as `subprocess` gives it, None where nobody knows.
        """
        self._abandoned.detach()
        self.channel.close()
        try:
            return self._template.obey({"pid": self.pid, "patience": patience})
        except (EOFError, OSError):
            return None


class _Template:
    """The process that decoders are forked from; see `vm.video.serving`.

    `end` makes sure that it is gone, and its decoders with it; it is called at exit at the latest.
    `abandoned` are decoders that were let go of without an end. They end by themselves, but stay on the
    books until their end is asked for.
    """

    def __init__(self) -> None:
        self._control, theirs = _connection()
        self._control.settimeout(_START_SECONDS)
        self._lock = threading.Lock()
        self.abandoned: deque[int] = deque()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "vm.video.serving", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,  # out of reach of Ctrl-C, which is for us to answer
            )
        self.end = weakref.finalize(self, _stop, process, self._control)

    def obey(self, order: dict[str, Any], files: list[int] | None = None) -> int:
        """Has an order carried out, and gives its outcome.

        Raises:
            EOFError, OSError: the process is gone, or is now, since it did not answer.
        """
        with self._lock:
            while self.abandoned:
                self._say({"pid": self.abandoned.popleft(), "patience": 0.0}, [])
            return self._say(order, files or [])

    def _say(self, order: dict[str, Any], files: list[int]) -> int:
        try:
            socket.send_fds(self._control, [json.dumps(order).encode()], files)
            reply = self._control.recv(_REPLY_BYTES)
            if not reply:
                raise EOFError("the template is gone")
            return int(json.loads(reply))
        except BaseException:  # an answer that was not waited for would be taken for the next one
            self.end()
            raise

    def disown(self) -> None:
        """It belongs to the process that we were forked from."""
        self.end.detach()
        self._control.close()


def _connection() -> tuple[socket.socket, socket.socket]:
    """Our end and the other's, which blocks whatever this process has as its default."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(True)
    return ours, theirs


def _stop(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()


def _start_anew(reference: weakref.ref[Decoders]) -> None:
    decoders = reference()
    if decoders:
        decoders._start_anew()


def _environment() -> dict[str, str]:
    """What is needed to find the same modules as here, and to stay single-threaded while importing them."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    home = str(Path(__file__).parents[2])
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    path = path if home in path else [home, *path]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
