"""Processes that are forked from one which has imported what takes long, instead of importing it each."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

# Nothing that reads the environment when it is imported: each process has its own.
_MODEL = ("vm.mind", "peft.utils.transformers_weight_conversion")
_TERMINAL = ("vm.cli", "typer.rich_utils", "rich.markdown")
_CELERY = ("celery.bin.celery", "celery.concurrency.prefork", "kombu.transport.redis")
_WORKING = ("celery.apps.worker", "celery.apps.beat", "celery.worker.consumer", "celery.worker.strategy")
_OWN = ("worker.engine", "worker.contract", "worker.deliveries", "worker.reindex_sheet", "worker.backtest")

_context = get_context("forkserver")
_context.set_forkserver_preload([*_MODEL, *_TERMINAL, *_CELERY, *_WORKING, *_OWN])


def process(code: str, given: Mapping[str, object]) -> ForkServerProcess:
    """A started process that executes Python code with these names in it."""
    started = _context.Process(target=exec, args=(code, dict(given)))
    started.start()
    return started


def pipe() -> tuple[Connection, Connection]:
    """What a process writes can be read at the first end; the second may be given to it."""
    return _context.Pipe(duplex=False)
