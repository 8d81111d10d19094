"""`videomind worker` where much comes in: fetching and accepting do not wait for each other."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import text

from tests import servers
from tests.integration.farm import web
from tests.integration.test_worker import PATIENCE, VIDEOMIND, VIDEOS, Service
from worker.jobs import Submission
from worker.store import Store

VIDEO = VIDEOS / "tiny3s.mp4"
FETCHING = 2  # processes
FLOOD = 20  # messages that are always waiting
MOST = 50_000  # submissions; far more than are accepted until a video is fetched


@dataclass
class Intake:
    """A worker that only takes in, and what tests see of it."""

    store: Store
    broker: servers.Redis

    def __post_init__(self) -> None:
        self.client = Celery(broker=self.broker.url)

    def submit(self, key: str, uri: str) -> None:
        sent = {"version": 1, "key": key, "uri": uri, "questions": [{"question": "Who?"}]}
        self.client.send_task("videomind.submit", kwargs=sent, queue="ingest")

    def waiting(self, queue: str) -> int:
        """Messages that nobody has taken."""
        return int(self.broker.client().llen(queue))

    def states(self) -> dict[str, str]:
        """Of all submissions, by key."""
        with self.store.engine.begin() as connection:
            found = connection.execute(text("SELECT key, state FROM submissions ORDER BY id"))
            return {row.key: row.state for row in found}

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.1)

    def forget(self) -> None:
        """All that was sent and submitted; what is begun ends first."""
        client = self.broker.client()
        client.delete("ingest", "fetch")
        self.until(lambda: not client.exists("unacked"))
        with self.store.engine.begin() as connection:
            connection.execute(text("TRUNCATE submissions CASCADE"))


@contextmanager
def _taking_in(intake: Intake, url: str, scratch: Path) -> Iterator[None]:
    command = [VIDEOMIND, "worker", "--only", "ingest", "--ingest-processes", str(FETCHING)]
    process = subprocess.Popen(command, env=Service(url, intake.broker.url, scratch).environment)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def service(
    postgresql: servers.PostgreSQL,
    migrated_postgresql: str,
    redis_server: servers.Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Intake]:
    """One for all tests here: starting it takes long."""
    redis_server.client().flushall()
    url = postgresql.url(postgresql.create(template=migrated_postgresql))
    with Store(url) as store:
        made = Intake(store, redis_server)
        with _taking_in(made, url, tmp_path_factory.mktemp("intake") / "scratch"):
            yield made


@pytest.fixture
def intake(service: Intake) -> Iterator[Intake]:
    """It has nothing to do."""
    yield service
    service.forget()


def test_downloads_keep_neither_submissions_nor_sweeps_waiting(intake: Intake):
    gate = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        """A byte now and then, and all the rest when the gate is open."""
        content = VIDEO.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        sent = 0
        while not gate.wait(0.2):
            request.wfile.write(content[sent : sent + 1])
            sent += 1
        request.wfile.write(content[sent:])

    slow = {f"slow {n}": "running" for n in range(FETCHING)}
    with web(drip) as address:
        for key in slow:
            intake.submit(key, f"{address}/{key[-1]}.mp4")
        intake.until(lambda: intake.states() == slow)
        intake.broker.client().delete("fetch")  # sweeps may have sent more than was needed
        intake.store.submissions.add(Submission("forgotten", VIDEO.as_uri(), ()))
        intake.until(lambda: intake.waiting("fetch") == 1)  # a sweep has found it
        intake.submit("next", VIDEO.as_uri())
        intake.until(lambda: intake.states() == {**slow, "forgotten": "queued", "next": "queued"})
        gate.set()
        intake.until(lambda: intake.states() == dict.fromkeys([*slow, "forgotten", "next"], "succeeded"))


def test_videos_are_fetched_while_submissions_never_cease(intake: Intake):
    sent = 0
    while not intake.store.queues.arrivals(["succeeded"], most=1):
        assert sent < MOST, "nothing was ever fetched"
        while intake.waiting("ingest") < FLOOD:
            intake.submit(str(sent), VIDEO.as_uri())
            sent += 1
        time.sleep(0.05)
    assert intake.waiting("ingest"), "they are still coming"
    intake.broker.client().delete("ingest")  # enough
