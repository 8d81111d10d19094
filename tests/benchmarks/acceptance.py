"""How many submissions a service at work accepts, from a producer that has nothing but a Celery client."""

from __future__ import annotations

import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from rich.table import Table
from sqlalchemy import text

from worker import schema
from worker.store import Store

PARITY = Path(__file__).parent.parent / "parity"
TARGET = 1000  # a minute
OUTSTANDING = 8  # submissions the producer has sent and not heard of
PATIENCE = 600.0  # seconds for workers to start, on a busy machine


def submission(video: Path, question: str) -> dict[str, Any]:
    """As a producer sends it."""
    return {
        "version": 1,
        "uri": str(video),
        "questions": [{"question": question}],
        "collection": "depot",
        "source": "gate",
        "recorded_at": "2026-03-01T08:00:00+01:00",
    }


def acceptance(url: str, broker: str, folder: Path, length: float) -> Table:
    """How much of what a producer sends is accepted, taken in and answered meanwhile."""
    schema.upgrade(url)
    client = Celery(broker=broker, backend=broker)
    with _workers(url, broker, folder), Store(url) as store:
        _send(client, folder, 0).get(timeout=PATIENCE)
        _until_one_is_answered(store)
        before = _counts(store)
        waits = _send_for(client, folder, length)
        after = _counts(store)
    table = Table("", "a minute", title=f"a service at work, {length:g} s")
    for name, count in after.items():
        table.add_row(name, f"{(count - before[name]) / length * 60:.0f}")
    table.add_row("from sent to accepted, median ms", f"{1000 * statistics.median(waits):.0f}")
    table.caption = f"to accept {TARGET} a minute"
    return table


@contextmanager
def _workers(url: str, broker: str, folder: Path) -> Iterator[None]:
    """`videomind worker`, as operators start it."""
    environment = {
        **os.environ,
        "VIDEOMIND_DATABASE_URL": url,
        "VIDEOMIND_BROKER_URL": broker,
        "VIDEOMIND_RESULT_URL": broker,
        "VIDEOMIND_CHECKPOINT": str(PARITY / "checkpoint"),
        "VIDEOMIND_BASE": str(PARITY / "base"),
        "VIDEOMIND_MEDIA_ROOTS": str(folder),
        "VIDEOMIND_SCRATCH": str(folder / "scratch"),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "worker.log").open("w") as log:
        command = [str(Path(sys.executable).with_name("videomind")), "worker"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        except BaseException:
            print((folder / "worker.log").read_text()[-5000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _send(client: Celery, folder: Path, number: int) -> Any:
    """A video that nobody has seen: the same pictures, and behind them a number that players pass over."""
    video = Path(shutil.copy(PARITY / "videos" / "tiny3s.mp4", folder / f"sent-{number}.mp4"))
    with video.open("ab") as file:
        file.write(struct.pack(">I4sQ", 16, b"free", number))
    sent = submission(video, f"Who is number {number}?")
    return client.send_task("videomind.submit", kwargs=sent, queue="ingest")


def _send_for(client: Celery, folder: Path, length: float) -> list[float]:
    """Sends as quickly as the service accepts. Seconds that each submission waited."""
    waiting: deque[tuple[float, Any]] = deque()
    waits, number, end = [], 0, time.perf_counter() + length
    while time.perf_counter() < end:
        while len(waiting) < OUTSTANDING:
            number += 1
            waiting.append((time.perf_counter(), _send(client, folder, number)))
        begun, sent = waiting.popleft()
        sent.get(timeout=PATIENCE)
        waits.append(time.perf_counter() - begun)
    return waits


def _until_one_is_answered(store: Store) -> None:
    """Then all processes have started and loaded what they need."""
    deadline = time.perf_counter() + PATIENCE
    while _counts(store)["answered"] == 0:
        if time.perf_counter() > deadline:
            raise TimeoutError("no analysis was answered")
        time.sleep(0.2)


def _counts(store: Store) -> dict[str, int]:
    statements = {
        "accepted": "SELECT count(*) FROM submissions",
        "taken in": "SELECT count(*) FROM submissions WHERE state = 'succeeded'",
        "answered": "SELECT count(*) FROM analyses WHERE state = 'succeeded'",
    }
    with store.engine.begin() as connection:
        return {name: connection.execute(text(sql)).scalar_one() for name, sql in statements.items()}
