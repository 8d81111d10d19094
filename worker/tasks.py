"""The tasks: ids in, one service call. Names and arguments are what producers rely on.

Public, described in `worker/contract`: videomind.submit, videomind.cancel, videomind.ingest_directory. The
others are this program's own, and carry nothing: they wake a worker, which asks the database what to do.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from celery import Task

from worker import engine, service
from worker import sweep as sweeping
from worker.celery_app import app
from worker.errors import DatabaseUnusable
from worker.settings import current

_AGAIN: dict[str, Any] = {
    "autoretry_for": (DatabaseUnusable,),
    "max_retries": None,
    "retry_backoff": 2,
    "retry_backoff_max": 60,
}


class OwnTask(Task):
    """A task whose lost processes are noticed at once."""

    Request = "worker.requests:WatchedRequest"


app.Task = OwnTask


@app.task(name="videomind.submit", bind=True, ignore_result=False, **_AGAIN)
def submit(task: Task, *unnamed: Any, **arguments: Any) -> dict[str, Any] | None:
    """Keeps one video and its questions; gives the ids by which to look them up."""
    accepted = service.submit(engine.store(), task.request.id, _named(unnamed, arguments))
    return asdict(accepted) if accepted else None


@app.task(name="videomind.cancel", bind=True, **_AGAIN)
def cancel(task: Task, *unnamed: Any, **arguments: Any) -> None:
    """Ends submissions and analyses."""
    service.cancel(engine.store(), task.request.id, _named(unnamed, arguments))


@app.task(name="videomind.ingest_directory", bind=True, ignore_result=False, **_AGAIN)
def ingest_directory(task: Task, *unnamed: Any, **arguments: Any) -> list[dict[str, Any]]:
    """Submits the finished files of a folder."""
    named = _named(unnamed, arguments)
    found = service.ingest_directory(engine.store(), current(), task.request.id, named)
    return [asdict(accepted) for accepted in found]


@app.task(name="videomind.fetch")
def fetch(*_: Any, **__: Any) -> None:
    """Takes in the submission that is next."""
    service.take_in(engine.registrar())


@app.task(name="videomind.analyse")
def analyse(*_: Any, **__: Any) -> None:
    """Answers the questions on the video that is next."""
    service.answer(engine.analyst(), engine.store())


@app.task(name="videomind.sweep")
def sweep(*_: Any, **__: Any) -> None:
    """Repairs what was forgotten."""
    sweeping.sweep(engine.store(), current())


def _named(unnamed: tuple[Any, ...], arguments: dict[str, Any]) -> dict[str, Any]:
    """What the contract checks: it knows named arguments only."""
    return {**arguments, "unnamed": list(unnamed)} if unnamed else arguments
