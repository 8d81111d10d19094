"""The command `videomind` in a process of its own that imports nothing which takes long; see `tests.forked`.

Such a process has its own environment, working directory, pipes and signals, and ends with an exit code. Only
how the command is found and what it imports must be tried with the one that is installed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from typing import TextIO

from tests import forked

# Streams and the time zone are made once, when Python starts; what is to happen at exit would not happen.
_MAIN = """
import atexit, os, sys, time
for number, pipe in pipes.items():
    os.dup2(pipe.fileno(), number)
    pipe.close()
os.environ.clear()
os.environ.update(environment)
time.tzset()
unbuffered = "PYTHONUNBUFFERED" in environment
sys.stdout = open(1, "w", 1 if unbuffered else -1, closefd=False)
sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
os.chdir(folder)
sys.argv = ["videomind", *arguments]
from worker.cli import main
try:
    main()
finally:
    atexit._run_exitfuncs()
"""


@dataclass(frozen=True)
class Command:
    """One that was started, to be used as what `subprocess.Popen` gives."""

    process: ForkServerProcess
    stdout: TextIO
    stderr: TextIO

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """Negative where a signal has ended it; None while it goes on."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Harmless where it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        self.process.join(timeout)
        if self.returncode is None:
            raise TimeoutExpired("videomind", timeout or 0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What nobody has read yet of stdout and stderr. What takes longer than its time is killed."""
        with ThreadPoolExecutor(2) as readers, self.stdout, self.stderr:
            out, err = (readers.submit(stream.read) for stream in (self.stdout, self.stderr))
            try:
                self.wait(timeout)
            except TimeoutExpired:
                self.kill()
                raise
            return out.result(timeout), err.result(timeout)

    def ended(self, timeout: float) -> CompletedProcess[str]:
        """What became of it."""
        out, err = self.communicate(timeout)
        return CompletedProcess("videomind", self.wait(), out, err)

    def end(self) -> None:
        """Kills it; harmless where it has ended."""
        self.kill()
        self.wait()
        self.stdout.close()
        self.stderr.close()


def start(
    *arguments: object, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Command:
    """Starts the command.

    Args:
        environment: if not that of the tests.
        folder: it works in, if not in that of the tests.
    """
    (out, its_out), (err, its_err) = forked.pipe(), forked.pipe()
    with out, err, its_out, its_err:
        given = {
            "pipes": {1: its_out, 2: its_err},
            "environment": dict(os.environ if environment is None else environment),
            "folder": folder or Path.cwd(),
            "arguments": [str(argument) for argument in arguments],
        }
        process = forked.process(_MAIN, given)
        return Command(process, *(os.fdopen(os.dup(end.fileno()), encoding="utf-8") for end in (out, err)))
