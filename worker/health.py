"""Whether everything a worker needs is there, for people and for probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vm.errors import VideoMindError
from worker import broker, schema
from worker.celery_app import ANALYSE, FETCH, INGEST, app
from worker.errors import Unhealthy
from worker.settings import Settings
from worker.store import Store

_PATIENCE = 2.0  # seconds in which a worker must answer


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what there is to say of it."""

    name: str
    well: bool
    told: str


def look(settings: Settings, workers: bool = True) -> list[Check]:
    """Looks at tables and queues, and where there is a broker at it and, if wanted, at the workers."""
    checks = [_check("tables", lambda: f"version {schema.check(settings.database_url)}")]
    if checks[0].well:
        checks.append(_check("queues", lambda: _queues(settings)))
    if settings.broker_url:
        checks.append(_check("broker", _messages))
        if workers and checks[-1].well:
            checks.append(_check("workers", _workers))
    return checks


def raise_for(checks: Sequence[Check]) -> None:
    """Raises Unhealthy: naming what is not well."""
    bad = [check.name for check in checks if not check.well]
    if bad:
        raise Unhealthy(f"not well: {', '.join(bad)}")


def _check(name: str, tell: Callable[[], str]) -> Check:
    try:
        return Check(name, True, tell())
    except VideoMindError as error:
        return Check(name, False, str(error))


def _messages() -> str:
    return f"{sum(map(broker.waiting, (INGEST, FETCH, ANALYSE)))} messages"


def _queues(settings: Settings) -> str:
    with Store(settings.database_url) as store:
        depths = store.queues.depths()
    parts = (
        f"{name} {depth.waiting} waiting, {depth.running} running, oldest {depth.oldest:.0f} s"
        for name, depth in depths.items()
    )
    return "; ".join(parts)


def _workers() -> str:
    found = sorted(_names())
    if not found:
        raise Unhealthy("none answers: start one with `videomind worker`")
    return ", ".join(found)


def _names() -> Iterator[str]:
    for answer in app.control.ping(timeout=_PATIENCE):
        yield from answer
