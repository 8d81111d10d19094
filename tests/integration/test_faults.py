"""Many jobs under many faults: killed and stopped workers, doubled messages, an emptied broker, a database
that restarts. Everything is done in the end, and nothing twice; without the sweep it would not be.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from celery import Celery
from sqlalchemy import text

from tests import servers
from worker import schema
from worker.jobs import Request, Submission
from worker.store import Store

PATIENCE = 240.0
"""Seconds after which what should have happened counts as not happening."""
JOBS, QUESTIONS = 200, 2  # jobs, and how many of them on one video
FAULTS = 20
DOUBLED = 0.3  # share of messages that are sent twice


@dataclass
class Farm:
    """Workers with a model that takes no time, on a real broker and a real database."""

    url: str
    broker: servers.Redis
    folder: Path
    beats: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        for name in ("ingest", "analyse-1", "analyse-2", *(f"beat-{n}" for n in range(self.beats))):
            self._start(name)

    def _start(self, name: str) -> None:
        kind = name.partition("-")[0]
        arguments = (
            ["beat", f"--schedule={self.folder / name}"]
            if kind == "beat"
            else [
                "worker",
                f"--queues={kind}",
                "--concurrency=1",
                f"--hostname={name}@here",
                "--loglevel=ERROR",
            ]
        )
        environment = {
            **os.environ,
            "VIDEOMIND_DATABASE_URL": self.url,
            "VIDEOMIND_BROKER_URL": self.broker.url,
            "VIDEOMIND_MEDIA_ROOTS": str(self.folder),
            "VIDEOMIND_SCRATCH": str(self.folder / "scratch"),
            "VIDEOMIND_LEASE_SECONDS": "4",
            "VIDEOMIND_SWEEP_SECONDS": "1",
            "VIDEOMIND_MAX_ATTEMPTS": "20",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "celery", "--app=tests.integration.fake_worker", *arguments]
        self.processes[name] = subprocess.Popen(
            command, env=environment, cwd=Path(__file__).parents[2], start_new_session=True
        )

    def revive(self) -> None:
        """What an operator's supervisor does."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self._start(name)

    def worker(self, rng: random.Random) -> psutil.Process | None:
        """A worker's parent or its child."""
        with suppress(psutil.NoSuchProcess):
            names = [name for name in self.processes if not name.startswith("beat")]
            parent = psutil.Process(self.processes[rng.choice(names)].pid)
            return rng.choice([parent, *parent.children()])
        return None

    def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


Fault = Callable[[Farm, random.Random], None]


@contextmanager
def _running(url: str, broker: servers.Redis, folder: Path, beats: int) -> Iterator[Farm]:
    schema.upgrade(url)
    farm = Farm(url, broker, folder, beats)
    farm.start()
    try:
        yield farm
    finally:
        farm.stop()


def _submit(farm: Farm, store: Store, rng: random.Random) -> None:
    client = Celery(broker=farm.broker.url)
    for number in range(JOBS // QUESTIONS):
        path = farm.folder / f"{number}.mp4"
        path.write_text(f"video {number}")
        requests = tuple(Request(f"question {n}") for n in range(QUESTIONS))
        store.submissions.add(Submission(f"job {number}", str(path), requests))
        for _ in range(2 if rng.random() < DOUBLED else 1):
            client.send_task("videomind.ingest", queue="ingest")
            client.send_task("videomind.analyse", queue="analyse")


def _kill(farm: Farm, rng: random.Random) -> None:
    if process := farm.worker(rng):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _freeze(farm: Farm, rng: random.Random) -> None:
    """For longer than a lease lasts."""
    process = farm.worker(rng)
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.suspend()
        time.sleep(5)
        process.resume()


def _empty_the_broker(farm: Farm, rng: random.Random) -> None:
    farm.broker.client().flushall()


def _kill_the_broker(farm: Farm, rng: random.Random) -> None:
    farm.broker.kill()
    farm.broker.start()


def _wait(farm: Farm, store: Store, finished: Callable[[dict[str, int]], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        farm.revive()
        if finished(_states(store)):
            return True
        time.sleep(0.3)
    return False


def _states(store: Store) -> dict[str, int]:
    with store.engine.begin() as connection:
        found = connection.execute(text("SELECT state, count(*) FROM analyses GROUP BY state"))
        return dict(found.tuples().all())


def _count(store: Store, statement: str) -> int:
    with store.engine.begin() as connection:
        return int(connection.execute(text(statement)).scalar_one())


def test_under_faults_everything_is_done_once_on_sqlite(empty_sqlite_url: str, tmp_path: Path):
    _survive(empty_sqlite_url, tmp_path, [])


def test_under_faults_everything_is_done_once_on_postgresql(tmp_path: Path):
    with servers.postgresql() as server:

        def restart(farm: Farm, rng: random.Random) -> None:
            server.kill()
            server.start()

        _survive(server.url(server.create()), tmp_path, [restart])


def _survive(url: str, tmp_path: Path, more: list[Fault]) -> None:
    rng = random.Random(os.environ.get("VIDEOMIND_FAULT_SEED", "1"))
    faults = [_kill, _kill, _kill, _freeze, _empty_the_broker, _kill_the_broker, *more]
    with (
        servers.redis_server() as broker,
        _running(url, broker, tmp_path, beats=2) as farm,
        Store(url) as store,
    ):
        _submit(farm, store, rng)
        for _ in range(FAULTS):
            time.sleep(rng.uniform(0.2, 1.5))
            rng.choice(faults)(farm, rng)
            farm.revive()
        assert _wait(farm, store, lambda states: states == {"succeeded": JOBS}, PATIENCE), _states(store)
        assert _count(store, "SELECT count(*) FROM moments") == 2 * JOBS
        assert _count(store, "SELECT count(*) FROM answers") == JOBS
        assert _count(store, "SELECT count(*) FROM coverage") == JOBS
        assert _count(store, "SELECT max(attempts) FROM analyses") <= 20
        assert _count(store, "SELECT count(*) FROM submissions WHERE state <> 'succeeded'") == 0


def test_without_the_sweep_an_emptied_broker_loses_work(empty_sqlite_url: str, tmp_path: Path):
    with (
        servers.redis_server() as broker,
        _running(empty_sqlite_url, broker, tmp_path, beats=0) as farm,
        Store(empty_sqlite_url) as store,
    ):
        _submit(farm, store, random.Random(1))
        assert _wait(farm, store, bool, PATIENCE)
        broker.client().flushall()
        assert not _wait(farm, store, lambda states: states == {"succeeded": JOBS}, 10)
