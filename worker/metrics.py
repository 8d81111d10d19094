"""What Prometheus is told: depth and age of the queues, seconds per stage, frames, failures.

Worker processes count for themselves (prometheus_client's files, one per process); the one that serves
the port adds them up, and asks the database about queues and deliveries whenever it is looked at.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from worker.errors import DatabaseUnusable
from worker.store import Store
from worker.store.leases import described

if TYPE_CHECKING:
    from vm.result import Result

_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)

STAGE_SECONDS = Histogram("videomind_stage_seconds", "Time spent per stage.", ["stage"], buckets=_BUCKETS)
FRAMES = Counter("videomind_frames", "Frames the grounder looked at.")
ANALYSES = Counter("videomind_analyses", "Analyses that gave a result.")
MEMORY = Gauge(
    "videomind_model_memory_bytes",
    "The most that answering has taken: of the device's memory, without one of the process'.",
    multiprocess_mode="livemax",
)
FAILURES = Counter("videomind_failures", "Failed attempts, by error code.", ["code"])


def count_result(result: Result) -> None:
    """What one analysis took."""
    ANALYSES.inc()
    MEMORY.set(_memory_taken())
    FRAMES.inc(sum(window.frames for window in result.windows))
    for stage, seconds in result.seconds.items():
        STAGE_SECONDS.labels(stage).observe(seconds)


def _memory_taken() -> int:
    """Bytes."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def count_failure(error: Exception) -> None:
    """One attempt that failed."""
    FAILURES.labels(described(error)[0]).inc()


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Counts the time spent within."""
    with STAGE_SECONDS.labels(stage).time():
        yield


class QueueCollector(Collector):
    """Queues and deliveries as the database has them at the moment somebody looks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        reachable = GaugeMetricFamily("videomind_database_up", "Whether the database answers.")
        try:
            depths, dead = self._store.queues.depths(), self._store.hits.count_dead()
        except DatabaseUnusable:
            reachable.add_metric([], 0)
            yield reachable
            return
        reachable.add_metric([], 1)
        yield reachable
        waiting = GaugeMetricFamily("videomind_queue_depth", "What waits.", labels=["queue"])
        running = GaugeMetricFamily("videomind_running", "What is being worked on.", labels=["queue"])
        oldest = GaugeMetricFamily("videomind_oldest_seconds", "Age of the oldest waiting.", labels=["queue"])
        for queue, depth in depths.items():
            waiting.add_metric([queue], depth.waiting)
            running.add_metric([queue], depth.running)
            oldest.add_metric([queue], depth.oldest)
        yield from (waiting, running, oldest)
        yield GaugeMetricFamily("videomind_dead_deliveries", "Hits whose webhook was given up.", dead)


def serve(port: int, store: Store) -> None:
    """Shows everything under http://…:port/metrics, from a thread."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(store))
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(_Own())
    start_http_server(port, registry=registry)


class _Own(Collector):
    """What this process has counted."""

    def collect(self) -> Iterable[Metric]:
        return REGISTRY.collect()
