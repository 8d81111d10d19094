"""What the environment says, as one frozen object.

    VIDEOMIND_DATABASE_URL   an SQLAlchemy URL; unset: SQLite, videomind/videomind.db in the user's
                             data directory ($XDG_DATA_HOME, or ~/.local/share)
    VIDEOMIND_BROKER_URL     a Celery broker; unset: tasks run in the process that sends them
    VIDEOMIND_CHECKPOINT     the checkpoint's folder; unset: the bundled one
    VIDEOMIND_BASE           the base model's folder; unset: where the checkpoint says
    VIDEOMIND_DEVICE         auto, cpu, cuda, …; unset: auto
    VIDEOMIND_DTYPE          auto, float32, bfloat16, …; unset: auto

An empty variable counts as unset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    database_url: str
    broker_url: str | None = None
    checkpoint: str | None = None
    base: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        def value(name: str) -> str | None:
            return environment.get(f"VIDEOMIND_{name}") or None

        return cls(
            database_url=value("DATABASE_URL") or default_database_url(environment),
            broker_url=value("BROKER_URL"),
            checkpoint=value("CHECKPOINT"),
            base=value("BASE"),
            device=value("DEVICE") or "auto",
            dtype=value("DTYPE") or "auto",
        )


def default_database_url(environment: Mapping[str, str]) -> str:
    """The embedded database: one SQLite file in the user's data directory."""
    home = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return f"sqlite:///{Path(home) / 'videomind' / 'videomind.db'}"


def current() -> Settings:
    """The settings in force: those of `using`, else the environment's, read once per process."""
    return _override.get() or _environment()


@contextmanager
def using(settings: Settings) -> Iterator[None]:
    """Other settings than the environment's, for tasks run in this process; restored on leaving."""
    token = _override.set(settings)
    try:
        yield
    finally:
        _override.reset(token)


_override: ContextVar[Settings | None] = ContextVar("settings", default=None)


@cache
def _environment() -> Settings:
    return Settings.from_environment(os.environ)
