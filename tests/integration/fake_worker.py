"""The worker's Celery application with a model that takes no time: what is tried is everything around it.

Started as `celery --app=tests.integration.fake_worker`; its children import it as well. What it does is
said by the environment:

    FAKE_FINGERPRINT of the model; unset: 64 times f
    FAKE_SECONDS     that an answer takes; unset: 0.05
    FAKE_READS       unset: no video is opened either. Set: each is, in a process of its own, as ever
    FAKE_GATE        a file that some questions wait for
    FAKE_VISIBILITY  seconds after which the broker delivers again; unset: as ever
    FAKE_CLOCK       seconds by which this process' clock is wrong; unset: 0
    FAKE_LIMIT       seconds that a task may take; unset: as ever
    FAKE_START       spawn: children are, as ever, which is the default; fork: they are there at once

A question may be a deed. `kill` and `crash` end the process that was to answer it, `hang` stops it within C
for good; `crash decoder` and `hang decoder` do so to the one that reads the video. `wait` waits until the
gate is there, and tells so meanwhile; `late` does so when all has been told.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import celery.app.base
import celery.worker.request
import kombu.transport.redis

import worker.database
import worker.store.leases
from tests.integration.made import FACTS, FINGERPRINT, result
from vm.result import Result
from worker import engine, ingest
from worker.celery_app import app
from worker.store import Store

__all__ = ["app"]

SECONDS = float(os.environ.get("FAKE_SECONDS", "0.05"))
READS = "FAKE_READS" in os.environ
GATE = Path(os.environ.get("FAKE_GATE", "/nowhere"))
SKEW = float(os.environ.get("FAKE_CLOCK", "0"))
_FRAME = (28, 28)


class Mind:
    """Finds the same two moments everywhere."""

    fingerprint = FINGERPRINT

    @contextmanager
    def open(self, reader: Any, **_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(video=reader.info, ask=partial(_ask, reader))

    def prefetch(self, reader: Any, *_: object, **__: object) -> None:
        if READS:
            reader.prefetch(_indices(reader), _FRAME)


def _ask(reader: Any, question: str, progress: Any, **_: object) -> Result:
    progress("grounder", 0.2)
    time.sleep(SECONDS)
    _DEEDS.get(question, _nothing)(reader)
    while question == "wait" and not GATE.exists():
        progress("grounder", 0.5)
        time.sleep(0.05)
    if READS:
        reader.read(_indices(reader), _FRAME)
    progress("answerer", 0.9)
    if question == "late":
        print("all is told", flush=True)
    while question == "late" and not GATE.exists():
        time.sleep(0.05)
    return result(question, reader.info, reader.warnings)


def _indices(reader: Any) -> tuple[int, ...]:
    return reader.sample(None, 4.0, 16)


def _nothing(reader: Any) -> None:
    """What questions do."""


def _hang(reader: Any) -> None:
    print("hanging", flush=True)
    c = ctypes.PyDLL(None)  # which keeps all other threads waiting too
    mutex = ctypes.create_string_buffer(256)
    c.pthread_mutex_lock(mutex)
    c.pthread_mutex_lock(mutex)


def _hang_decoder(reader: Any) -> None:
    from vm.video import Cage, MediaLimits  # takes long

    os.kill(reader.pid, signal.SIGSTOP)
    reader._limits, reader._cage = MediaLimits(timeout=0.5), Cage(grace_seconds=0.5)


_DEEDS: dict[str, Callable[[Any], None]] = {
    "kill": lambda reader: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda reader: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": _hang,
    "crash decoder": lambda reader: os.kill(reader.pid, signal.SIGSEGV),
    "hang decoder": _hang_decoder,
}


_inherited: list[object] = []


def _leave_to_the_parent() -> None:
    """Its connections to the database, which a child must neither use nor close."""
    _inherited.append(engine._store)
    engine._store = cache(Store)


@contextmanager
def _opened(path: Path, settings: object) -> Iterator[SimpleNamespace]:
    yield SimpleNamespace(info=FACTS, recorded_at=None, warnings=[])


class _WrongClock(datetime):
    """What `datetime.now` would say on a machine whose clock is wrong."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(seconds=SKEW)


# Spawned children import what the application includes.
app.conf.include = ["worker.tasks", "tests.integration.fake_worker"]
engine.loaded = Mind  # type: ignore[assignment]
engine.fingerprint = lambda: FINGERPRINT
if not READS:
    ingest.opened = _opened  # type: ignore[assignment]
    engine._warm_up = lambda: None
if os.environ.get("FAKE_START") == "fork":
    app.conf.worker_pool_start_method = "fork"
    os.register_at_fork(after_in_child=_leave_to_the_parent)
if "FAKE_LIMIT" in os.environ:
    app.conf.task_time_limit = int(os.environ["FAKE_LIMIT"])
    app.conf.task_soft_time_limit = app.conf.task_time_limit - 1
if "FAKE_VISIBILITY" in os.environ:
    app.conf.broker_transport_options |= {
        "visibility_timeout": float(os.environ["FAKE_VISIBILITY"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
if SKEW:
    for module in (celery.app.base, celery.worker.request, worker.database, worker.store.leases):
        module.datetime = _WrongClock  # type: ignore[attr-defined]
    kombu.transport.redis.time = lambda: time.time() + SKEW
