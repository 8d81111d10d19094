"""`videomind worker` as operators start it: real broker, real PostgreSQL, the real model, real signals.

Producers are what they are elsewhere: a Celery client that knows names and arguments, and nothing of us.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from tests import commands, servers

PARITY = Path(__file__).parent.parent / "parity"
VIDEOS = PARITY / "videos"
PATIENCE = 180.0
"""Seconds after which what should have happened counts as not happening."""
VIDEOMIND = str(Path(sys.executable).with_name("videomind"))


class Service:
    """A worker and all that belongs to it."""

    def __init__(self, url: str, broker: str, scratch: Path) -> None:
        self.url, self.broker = url, broker
        self.environment = {
            **os.environ,
            "VIDEOMIND_DATABASE_URL": url,
            "VIDEOMIND_BROKER_URL": broker,
            "VIDEOMIND_RESULT_URL": broker,
            "VIDEOMIND_CHECKPOINT": str(PARITY / "checkpoint"),
            "VIDEOMIND_BASE": str(PARITY / "base"),
            "VIDEOMIND_MEDIA_ROOTS": str(VIDEOS),
            "VIDEOMIND_ALLOWED_NETWORKS": "127.0.0.0/8",
            "VIDEOMIND_SCRATCH": str(scratch),
            "VIDEOMIND_SWEEP_SECONDS": "1",
            "VIDEOMIND_METRICS_PORT": str(servers.free_port()),
            "OMP_NUM_THREADS": "1",
        }
        self.client = Celery(broker=broker, backend=broker)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.start(*arguments, environment=self.environment).ended(PATIENCE)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([VIDEOMIND, "worker", "--ingest-processes", "1"], env=self.environment)

    def send(self, name: str, **arguments: Any) -> Any:
        """Sends a message, and waits for what its task gives."""
        sent = self.client.send_task(f"videomind.{name}", kwargs={"version": 1, **arguments}, queue="ingest")
        return sent.get(timeout=PATIENCE)

    def query(self, statement: str) -> list[tuple]:
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            return connection.execute(statement.encode()).fetchall()

    def until(self, statement: str, wanted: Callable[[list[tuple]], bool]) -> list[tuple]:
        deadline = time.monotonic() + PATIENCE
        while not wanted(rows := self.query(statement)):
            assert time.monotonic() < deadline, rows
            time.sleep(0.1)
        return rows


@pytest.fixture(scope="module")
def service(
    postgresql: servers.PostgreSQL, redis_server: servers.Redis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A running service, one for all tests here: starting it takes long."""
    made = Service(
        postgresql.url(postgresql.create()), redis_server.url, tmp_path_factory.mktemp("scratch") / "here"
    )
    refused = made.command("worker")
    assert (refused.returncode, "videomind db upgrade" in refused.stderr) == (3, True)
    assert made.command("db", "upgrade").returncode == 0
    process = made.start()
    yield made
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert made.query("SELECT count(*) FROM analyses WHERE state = 'running'") == [(0,)]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict]]]:
    """A URL that is told of ends, and what it was told. It fails the first time."""
    told: list[dict] = []
    answers = iter((500,))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = next(answers, 204)
            if status == 204:
                told.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/done", told
    server.shutdown()


def test_a_producer_needs_a_celery_client_and_analysts_an_sql_client(service: Service, receiver):
    callback, told = receiver
    questions = [
        {"question": "Why did the man appear?"},
        {"question": "Who?", "mode": "answer", "options": ["a man", "a dog"]},
    ]
    ids = service.send(
        "submit",
        uri=str(VIDEOS / "tiny3s.mp4"),
        questions=questions,
        collection="depot",
        source="gate",
        recorded_at="2026-03-01T08:00:00+01:00",
        callback_url=callback,
    )
    service.until("SELECT state FROM analyses", lambda rows: rows == [("succeeded",)] * 2)
    found = service.query(
        "SELECT collection, source, starts_at - timestamptz '2026-03-01T07:00:00Z' "
        "= make_interval(secs => start_seconds), rank FROM moment_view ORDER BY rank"
    )
    assert found[0] == ("depot", "gate", True, 1)
    assert service.query("SELECT answer_option FROM answer_view WHERE question = 'Who?'")[0][0] in "AB"
    assert service.query("SELECT verdict FROM coverage WHERE verdict <> 'not_searched'")
    deadline = time.monotonic() + PATIENCE
    while not told and time.monotonic() < deadline:
        time.sleep(0.1)
    assert told[0]["submission_id"] == ids["submission_id"]
    assert [each["state"] for each in told[0]["analyses"]] == ["succeeded"] * 2
    assert [each["request_id"] for each in told[0]["analyses"]] == ids["request_ids"]


def test_what_is_sent_twice_is_done_once(service: Service):
    sent = {"key": "twice", "uri": str(VIDEOS / "tiny3s.mp4"), "questions": [{"question": "Is it day?"}]}
    assert service.send("submit", **sent) == service.send("submit", **sent)
    service.until("SELECT state FROM analyses WHERE question = 'Is it day?'", lambda r: r == [("succeeded",)])


def test_bad_messages_and_videos_are_stored_with_their_reasons_and_the_queue_goes_on(service: Service):
    assert service.send("submit", key="odd", uri=7) is None
    for key, uri in (("away", "/etc/hostname"), ("gone", str(VIDEOS / "none.mp4"))):
        service.send("submit", key=key, uri=uri, questions=[{"question": "Who?"}])
    service.client.send_task("videomind.nosuch", queue="ingest")
    with service.client.connection_for_write() as connection:
        connection.default_channel.client.lpush("ingest", "no JSON at all")
    service.send(
        "submit", key="good", uri=str(VIDEOS / "tiny3s.mp4"), questions=[{"question": "And after that?"}]
    )
    rows = service.until(
        "SELECT key, state, error_code FROM submissions WHERE key IN ('odd', 'away', 'gone', 'good') "
        "ORDER BY id",
        lambda rows: len(rows) == 4 and all(state in ("succeeded", "failed") for _, state, _ in rows),
    )
    assert rows == [
        ("odd", "failed", "invalid_message"),
        ("away", "failed", "source_forbidden"),
        ("gone", "failed", "invalid_source"),
        ("good", "succeeded", None),
    ]
    service.until(
        "SELECT state FROM analyses WHERE question = 'And after that?'", lambda r: r == [("succeeded",)]
    )


def test_people_probes_and_prometheus_can_see_how_it_goes(service: Service):
    health = service.command("health", "--json")
    assert health.returncode == 0, health.stdout
    assert [json.loads(line)["name"] for line in health.stdout.splitlines()] == [
        "tables",
        "queues",
        "broker",
        "workers",
    ]
    status = service.command("status", "--state", "succeeded", "--json")
    assert any(json.loads(line).get("progress") == 1.0 for line in status.stdout.splitlines())
    port = service.environment["VIDEOMIND_METRICS_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        shown = response.read().decode()
    for name in ("videomind_queue_depth", "videomind_stage_seconds_sum", "videomind_frames_total"):
        assert name in shown
    assert 'videomind_failures_total{code="invalid_source"}' in shown


def test_a_killed_model_process_costs_nothing_but_time(service: Service):
    service.send(
        "submit",
        key="killed",
        uri=str(VIDEOS / "wide61s.mkv"),
        questions=[{"question": f"Find the moment when the ball appears, {n}"} for n in range(4)],
    )
    rows = service.until(
        "SELECT lease_holder FROM analyses WHERE state = 'running' AND progress > 0", lambda rows: bool(rows)
    )
    os.kill(int(rows[0][0].split(":")[-2]), signal.SIGKILL)
    done = service.until(
        "SELECT state, attempts FROM analyses WHERE question LIKE 'Find the moment%' ORDER BY id",
        lambda rows: all(state in ("succeeded", "failed") for state, _ in rows),
    )
    assert [state for state, _ in done] == ["succeeded"] * 4
    assert max(attempts for _, attempts in done) == 2
