"""Worker processes with a model that takes no time, on real servers, for tests that do them harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psutil
from celery import Celery
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from tests import forked, servers
from tests.integration.made import ROWS
from worker import schema
from worker.jobs import Request, Submission
from worker.store import Store

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds without any change after which what should have happened counts as not happening."""

QUEUES = {"ingest": "ingest,sweep"}
"""What a worker serves, where that is not the one queue it is named after."""

CELERY = """
import os, sys
from worker import supervisor
os.setsid()
supervisor._end_with(os.getppid())
for number in (1, 2):
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
os.environ.clear()
os.environ.update(environment)
os.chdir(root)
sys.path.insert(0, root)
sys.argv = ["celery", "--app=tests.integration.fake_worker", *arguments]
from celery.__main__ import main
main()
"""

Row = tuple[Any, ...]
Found = TypeVar("Found")

_MOVES = """
    SELECT 'analyses', state, attempts, error_code, count(*) FROM analyses GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT 'submissions', state, attempts, error_code, count(*) FROM submissions GROUP BY 1, 2, 3, 4
    ORDER BY 1, 2, 3, 4
"""


@dataclass
class Farm:
    """Processes by name: what stands before the first hyphen is the queue a worker serves, or `beat`.
    Who serves `ingest` sweeps as well.

    Attributes:
        variables: of the environment of all processes.
        keeps: start anew what has ended, as an operator's supervisor does.
    """

    url: str
    broker: servers.Redis
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    keeps: bool = False
    processes: dict[str, ForkServerProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._own: dict[str, dict[str, str]] = {}
        self.store = Store(self.url)
        self.client = Celery(broker=self.broker.url)

    def start(self, *names: str, **variables: str) -> None:
        """Args: variables: of these processes' environment alone."""
        for name in names:
            self._own[name] = variables
            self._start(name)

    def _start(self, name: str) -> None:
        environment = {
            **os.environ,
            "VIDEOMIND_DATABASE_URL": self.url,
            "VIDEOMIND_BROKER_URL": self.broker.url,
            "VIDEOMIND_MEDIA_ROOTS": str(self.folder),
            "VIDEOMIND_ALLOWED_NETWORKS": "127.0.0.1/32",
            "VIDEOMIND_SCRATCH": str(self.scratch),
            "VIDEOMIND_SWEEP_SECONDS": "1",
            "FAKE_GATE": str(self.gate),
            "FAKE_START": "fork",
            "OMP_NUM_THREADS": "1",
            **self.variables,
            **self._own[name],
        }
        self._log(name).touch()
        given = {"environment": environment, "arguments": self._arguments(name)}
        started = forked.process(CELERY, {**given, "log": str(self._log(name)), "root": str(ROOT)})
        while started.exitcode is None and os.getpgid(started.pid) != started.pid:
            time.sleep(0.001)  # only then it can be killed with all that it starts
        self.processes[name] = started

    def _arguments(self, name: str) -> list[str]:
        kind = name.partition("-")[0]
        if kind == "beat":
            return ["beat", f"--schedule={self.folder / name}"]
        return ["worker", f"--queues={QUEUES.get(kind, kind)}", "--concurrency=1", f"--hostname={name}@here"]

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    @property
    def gate(self) -> Path:
        """What some questions wait for; see `fake_worker`."""
        return self.folder / "gate"

    def told(self, name: str) -> str:
        """All that a process has logged."""
        return self._log(name).read_text(errors="replace")

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def child(self, name: str) -> psutil.Process:
        """The process in which a worker works."""
        return self.wait(lambda: next(iter(self._children(name)), None))

    def ready(self, name: str, starts: int = 1) -> None:
        """Waits until a worker has been started so often and listens."""
        self.wait(lambda: self.told(name).count(f"{name}@here ready") == starts)

    def _children(self, name: str) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.processes[name].pid).children()
            return [child for child in found if "_tracker" not in " ".join(child.cmdline())]
        return []

    def workers(self) -> list[psutil.Process]:
        """Both processes of each worker, as far as they are there."""
        found = []
        for name, process in self.processes.items():
            if process.exitcode is None and not name.startswith("beat"):
                found += [psutil.Process(process.pid), *self._children(name)]
        return found

    def holders(self, *tables: str) -> list[tuple[str, int]]:
        """Who holds leases, by name and process id."""
        held = "SELECT DISTINCT lease_holder FROM {} WHERE state = 'running' ORDER BY 1"
        names = [name for table in tables for (name,) in self.rows(held.format(table))]
        return [(name, int(name.split(":")[-2])) for name in names]

    def revive(self) -> None:
        for name, process in list(self.processes.items()):
            if process.exitcode is not None:
                self._start(name)

    def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        self.store.engine.dispose()

    def submit(self, uri: str | Path, *questions: str, messages: int = 1) -> int:
        """Keeps a submission, and sends so many messages for it and for what it asks. Gives its id."""
        requests = tuple(Request(question) for question in questions)
        accepted = self.store.submissions.add(Submission(uuid4().hex, str(uri), requests))
        for _ in range(messages):
            self.wake("fetch")
            self.wake("analyse")
        return accepted.submission_id

    def wake(self, queue: str) -> None:
        """One message, as the program itself sends it."""
        self.client.send_task(f"videomind.{queue}", queue=queue)

    def waiting(self, *queues: str) -> bool:
        """Whether the broker has messages for these."""
        return bool(self.broker.client().exists(*queues))

    def film(self, name: str) -> Path:
        """A file that the fake decoder takes for a video."""
        path = self.folder / f"{name}.mp4"
        path.write_text(f"video {name}")
        return path

    def rows(self, statement: str, **values: object) -> list[Row]:
        with self.store.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]

    def states(self, table: str = "analyses") -> dict[str, int]:
        return dict(self.rows(f"SELECT state, count(*) FROM {table} GROUP BY state"))

    def until(self, statement: str, *wanted: Row) -> None:
        """Waits until a statement gives these rows."""
        self.wait(lambda: self.rows(statement) == list(wanted), statement)

    def wait(self, look: Callable[[], Found], watch: str = _MOVES) -> Found:
        """What `look` gives, as soon as it is anything. The database may be away meanwhile.

        Args:
            watch: a statement whose rows change as long as it is worth waiting.
        """
        deadline, before = time.monotonic() + PATIENCE, None
        while True:
            if self.keeps:
                self.revive()
            with suppress(DBAPIError):
                if found := look():
                    return found
                if before != (before := self.rows(watch)):
                    deadline = time.monotonic() + PATIENCE
            assert time.monotonic() < deadline, (before, self.rows(_MOVES), *self._ends())
            time.sleep(0.05)

    def _ends(self) -> Iterator[str]:
        for name in self.processes:
            yield f"\n{name}: {self.told(name)[-1000:]}"

    def orphans(self) -> list[str]:
        """The foreign keys that lead to no row."""
        found = []
        tables = inspect(self.store.engine)
        for table in tables.get_table_names():
            for key in tables.get_foreign_keys(table):
                (column,), (parent,) = key["constrained_columns"], key["referred_columns"]
                known = f"SELECT {parent} FROM {key['referred_table']}"
                lost = f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL AND {column} NOT IN ({known})"
                if self.rows(lost):
                    found.append(f"{table}.{column}")
        return found

    def assert_done_once(self, jobs: int) -> None:
        """So many analyses have been answered; each has what belongs to one, and nothing belongs to none."""
        assert self.states() == {"succeeded": jobs}
        assert set(self.states("submissions")) == {"succeeded"}
        assert self.rows("SELECT count(*) FROM analyses WHERE current") == [(jobs,)]
        for table, rows in ROWS.items():
            counted = f"SELECT count(*) FROM {table} GROUP BY analysis_id"
            assert self.rows(counted) == [(rows,)] * jobs, table
        assert self.orphans() == []


@contextmanager
def farming(url: str, broker: servers.Redis, folder: Path, **variables: str) -> Iterator[Farm]:
    """A farm on a database, which gets its tables if it has none. Nothing of it runs yet."""
    schema.upgrade(url)
    made = Farm(url, broker, folder, variables)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def watched(url: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Somebody reads the database meanwhile; call what is given at the end for what was seen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.onlooker", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        yield lambda: json.loads(process.communicate(timeout=PATIENCE)[0])
    finally:
        process.kill()
        process.communicate()


@contextmanager
def web(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server of the test's own, and its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(ConnectionError):  # who asked was killed
                answer(self)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
