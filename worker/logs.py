"""Log lines that say which submission or analysis they are about, as text or as JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from pythonjsonlogger.json import JsonFormatter

from worker.masking import masked

_about: ContextVar[Mapping[str, int]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**ids: int) -> Iterator[None]:
    """Log lines within name these ids."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


class _NameIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        ids = _about.get()
        for name, value in ids.items():
            setattr(record, name, value)
        record.ids = "".join(f" [{name.removesuffix('_id')} {value}]" for name, value in ids.items())
        return True


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _Json(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def set_up(form: str, level: int = logging.INFO) -> None:
    """Send the log to stderr, a line each, without the secrets of URLs. Args: form: text or json."""
    handler = logging.StreamHandler()
    handler.addFilter(_NameIds())
    if form == "json":
        names = ["asctime", "levelname", "name", "message"]
        handler.setFormatter(_Json(names, rename_fields={"asctime": "time", "levelname": "level"}))
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)s%(ids)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for talkative in ("alembic", "torch"):  # of each look at the tables; of caches, if its loading is ended
        logging.getLogger(talkative).setLevel(logging.WARNING)
