"""Many jobs under many faults: workers are killed, the broker forgets everything, the database restarts.

Everything is done in the end, and nothing twice; without the sweep it would not be.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.integration.farm import Farm, farming, watched, web

JOBS, QUESTIONS = 200, 2  # analyses, and how many of them on one video
KILLS, EMPTIED = 20, 2
DOUBLED = 0.3  # share of messages that are sent twice
MOST_ATTEMPTS = 12
SCRATCH = 400_000  # bytes; 100 videos have five times as many
SIZE = 20_000

BUSY = """
    SELECT 1 WHERE EXISTS (SELECT 1 FROM analyses WHERE state = 'running')
    OR NOT EXISTS (SELECT 1 FROM analyses WHERE state = 'queued')
    AND NOT EXISTS (SELECT 1 FROM submissions WHERE state <> 'succeeded')
"""
"""Somebody is at work, or was too quick to be seen."""

Fault = Callable[[], None]
Tell = Callable[[str], None]


@dataclass
class Run:
    """One run, and what it prints of itself."""

    farm: Farm
    rng: random.Random
    jobs: int
    videos: Iterator[str]

    def submit(self, count: int) -> None:
        """That many more videos."""
        for _, video in zip(range(count), self.videos, strict=False):
            questions = (f"question {n}" for n in range(QUESTIONS))
            self.farm.submit(video, *questions, messages=2 if self.rng.random() < DOUBLED else 1)

    def kill(self) -> None:
        """A process of a worker, be it the one that receives or the one that works; every second time one
        that is at work just now."""
        while True:
            everybody = self.farm.wait(self.farm.workers)
            holders = {pid for _, pid in self.farm.holders("analyses", "submissions")}
            busy = [process for process in everybody if process.pid in holders]
            victim = self.rng.choice(self.rng.choice([everybody, busy or everybody]))
            with suppress(psutil.NoSuchProcess):
                victim.kill()
                victim.wait()
                return

    def empty(self) -> None:
        self.farm.broker.kill()
        self.farm.broker.start()

    def suffer(self, faults: list[Fault]) -> None:
        """One fault after the other, each while somebody is at work."""
        share = self.jobs // QUESTIONS // (len(faults) + 1)
        for fault in faults:
            self.submit(share)
            self.farm.wait(lambda: self.farm.rows(BUSY))
            time.sleep(self.rng.uniform(0, 0.2))
            fault()
        self.submit(self.jobs)

    @property
    def lost(self) -> int:
        """Tries that a fault has ended."""
        return self.farm.rows("SELECT sum(losses) FROM analyses")[0][0]

    @property
    def most(self) -> int:
        """Tries that one analysis took."""
        return self.farm.rows("SELECT max(attempts) FROM analyses")[0][0]

    def figures(self) -> str:
        done = self.farm.states().get("succeeded", 0)
        return f"{done} of {self.jobs} done, {self.lost} tries lost, at most {self.most} tries for one"


def _send(request: BaseHTTPRequestHandler) -> None:
    """A video in two pieces, so that somebody may be killed in between."""
    request.send_response(200)
    request.send_header("Content-Length", str(SIZE))
    request.end_headers()
    content = request.path.encode().ljust(SIZE, b".")
    for part in (content[: SIZE // 2], content[SIZE // 2 :]):
        request.wfile.write(part)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def broker() -> Iterator[servers.Redis]:
    """One that is killed now and then."""
    with servers.redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def database_server() -> Iterator[servers.PostgreSQL]:
    """One that is restarted now and then."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture
def running(broker: servers.Redis, tmp_path: Path) -> Callable[..., AbstractContextManager[Run]]:
    return partial(_running, broker, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_under_faults_everything_is_done_once_on_postgresql(seed: int, database_server, running, tell):
    def restart() -> None:
        database_server.stop()
        database_server.start()

    url = database_server.url(database_server.create())
    _survive(running(seed, JOBS, url), KILLS, [restart], tell)


def test_under_faults_everything_is_done_once_on_sqlite(empty_sqlite_url: str, running, tell):
    _survive(running(4, JOBS // 4, empty_sqlite_url), KILLS // 4, [], tell)


def _survive(started: AbstractContextManager[Run], kills: int, more: list[Fault], tell: Tell) -> None:
    began = time.monotonic()
    with started as run, watched(run.farm.url) as onlooker:
        run.farm.keeps = True
        run.farm.start("ingest", "fetch", "analyse-1", "analyse-2", "beat-1", "beat-2")
        faults = [run.kill] * kills + [run.empty] * EMPTIED + more
        run.rng.shuffle(faults)
        run.suffer(faults)
        for table, count in (("analyses", run.jobs), ("submissions", run.jobs // QUESTIONS)):
            run.farm.until(f"SELECT state, count(*) FROM {table} GROUP BY state", ("succeeded", count))
        seen = onlooker()
        tell(
            f"{kills} kills, {EMPTIED} emptied brokers, {len(more)} database restarts; {run.figures()}; "
            f"{time.monotonic() - began:.0f} s; an onlooker looked {seen['looks']} times"
        )
        run.farm.assert_done_once(run.jobs)
        assert run.lost > 0 or kills < KILLS, "no fault has hit anything"  # a few may well miss everybody
        assert run.most <= MOST_ATTEMPTS
        assert (seen["looks"] > 0, seen["half"]) == (True, [])
        run.farm.stop()
        assert list((run.farm.scratch / "partial").iterdir()) == []
        assert sum(path.stat().st_size for path in (run.farm.scratch / "whole").iterdir()) <= SCRATCH


def test_without_the_sweep_an_emptied_broker_loses_work(database_server, running, tell):
    jobs = JOBS // 4
    with running(1, jobs, database_server.url(database_server.create())) as run:
        run.submit(jobs)
        run.farm.start("fetch", "analyse-1", "analyse-2")
        run.farm.wait(lambda: run.farm.states().get("succeeded"))
        run.empty()
        _rest(run.farm)
        tell(f"no sweep, 1 emptied broker; {run.figures()}")
        assert run.farm.states()["succeeded"] < jobs
        run.farm.start("ingest", "beat")
        run.farm.until("SELECT state, count(*) FROM analyses GROUP BY state", ("succeeded", jobs))


def _rest(farm: Farm) -> None:
    """Waits until the workers are there again, have no message, and nothing is being done."""
    for queue in ("fetch", "analyse"):
        farm.wake(queue)
    farm.wait(lambda: not farm.waiting("fetch", "analyse", "unacked"))
    farm.until("SELECT id FROM analyses WHERE state = 'running'")


@contextmanager
def _running(broker: servers.Redis, folder: Path, seed: int, jobs: int, url: str) -> Iterator[Run]:
    broker.client().flushall()
    limits = {
        "VIDEOMIND_SCRATCH_BYTES": str(SCRATCH),
        "VIDEOMIND_LEASE_SECONDS": "5",
        "VIDEOMIND_MAX_ATTEMPTS": str(MOST_ATTEMPTS),
    }
    with web(_send) as address, farming(url, broker, folder, **limits) as made:
        yield Run(made, random.Random(seed), jobs, (f"{address}/{n}" for n in range(jobs // QUESTIONS)))
