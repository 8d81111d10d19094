"""The work of `videomind run`: submit, have the task do it in this process, look up what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker import engine, media, schema, tasks
from worker.jobs import Outcome, Request
from worker.settings import current
from worker.store import Store

Report = Callable[[str, float], None]
"""Called with what is being done and its fraction done, 0 to 1."""


def prepare() -> None:
    """Sets up a new embedded database and loads the model, so that both are known to work.

    Raises:
        DatabaseUnusable: or StaleSchema, which names the command to run.
        CheckpointError: the checkpoint cannot be used.
    """
    schema.prepare(current().database_url)
    engine.loaded()


def answer(video: Path, requests: Sequence[Request], report: Report) -> list[Outcome]:
    """One video's analyses, each new, repeated after a failure, or as it was answered before.

    Raises:
        InvalidSource: there is no such file to read.
        DatabaseUnusable: the database stopped answering.
    """
    report("reading", 0.0)
    source = media.identify(video)
    fingerprint = engine.loaded().fingerprint
    with Store(current().database_url) as store:
        ids = list(dict.fromkeys(store.submit(source, request, fingerprint) for request in requests))
        with _reported(report):
            tasks.analyse.apply(args=[ids], throw=True)
        return store.outcomes(ids)


@contextmanager
def _reported(report: Report) -> Iterator[None]:
    def receive(stage: str, fraction: float, **_: object) -> None:
        report(stage, fraction)

    tasks.progressed.connect(receive, weak=False)
    try:
        yield
    finally:
        tasks.progressed.disconnect(receive)
