"""Processes that are forked from one which has imported what takes long, instead of importing it each."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess

# Nothing that reads the environment when it is imported: each process has its own.
_IMPORTED = ("vm.mind", "celery.bin.celery", "celery.concurrency.prefork", "kombu.transport.redis")
_OWN = ("worker.store", "worker.ingest", "worker.contract", "worker.reindexing")

_context = get_context("forkserver")
_context.set_forkserver_preload([*_IMPORTED, *_OWN])


def process(code: str, given: Mapping[str, object]) -> ForkServerProcess:
    """A started process that executes Python code with these names in it."""
    started = _context.Process(target=exec, args=(code, dict(given)))
    started.start()
    return started
