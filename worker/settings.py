"""What the environment says, as one frozen object.

    VIDEOMIND_DATABASE_URL      an SQLAlchemy URL; unset: SQLite, videomind/videomind.db in the user's
                                data directory ($XDG_DATA_HOME, or ~/.local/share)
    VIDEOMIND_BROKER_URL        a Celery broker; unset: the embedded default, everything in one process
    VIDEOMIND_RESULT_URL        a Celery result backend, for producers who wait for ids; unset: none
    VIDEOMIND_CHECKPOINT        the checkpoint's folder; unset: the bundled one
    VIDEOMIND_BASE              the base model's folder; unset: where the checkpoint says
    VIDEOMIND_DEVICE            auto, cpu, cuda, …; unset: auto
    VIDEOMIND_DTYPE             auto, float32, bfloat16, …; unset: auto
    VIDEOMIND_MEDIA_ROOTS       folders that local videos may be in, separated by ":"; unset: with a broker
                                none, without one any that the user can read
    VIDEOMIND_ALLOWED_NETWORKS  private networks that videos may be fetched from, as 10.1.0.0/16, by ","
    VIDEOMIND_SCRATCH           folder for fetched videos; unset: videomind/scratch in the data directory
    VIDEOMIND_SCRATCH_BYTES     how much it may hold; unset: 50 GB
    VIDEOMIND_MAX_BYTES         the largest video that is fetched; unset: 10 GB
    VIDEOMIND_FETCH_SECONDS     the longest that fetching one may take; unset: 3600
    VIDEOMIND_DECODER_BYTES     memory of the process that reads a video; unset: 4 GB
    VIDEOMIND_LEASE_SECONDS     how long a silent worker keeps its work; unset: 120
    VIDEOMIND_STALLED_SECONDS   how long an analysis may make no progress; unset: 1800
    VIDEOMIND_TASK_SECONDS      how long all questions on one video may take together; unset: 6 hours
    VIDEOMIND_MAX_ATTEMPTS      how often work is tried before it counts as failed; unset: 5
    VIDEOMIND_SWEEP_SECONDS     how often the sweep looks for lost work; unset: 30
    VIDEOMIND_METRICS_PORT      where a worker shows Prometheus metrics; unset: nowhere
    VIDEOMIND_LOG               text or json; unset: text

An empty variable counts as unset.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from worker.errors import InvalidSettings

GB = 10**9
Network = IPv4Network | IPv6Network


def _scratch() -> Path:
    return data_folder(os.environ) / "scratch"


@dataclass(frozen=True)
class Settings:
    """Sizes in bytes, times in seconds. `media_roots` is None where any local file may be read."""

    database_url: str
    broker_url: str | None = None
    result_url: str | None = None
    checkpoint: str | None = None
    base: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    media_roots: tuple[Path, ...] | None = None
    allowed_networks: tuple[Network, ...] = ()
    scratch: Path = field(default_factory=_scratch)
    scratch_bytes: int = 50 * GB
    max_bytes: int = 10 * GB
    fetch_seconds: float = 3600.0
    decoder_bytes: int = 4 * GB
    lease_seconds: float = 120.0
    stalled_seconds: float = 1800.0
    max_attempts: int = 5
    sweep_seconds: float = 30.0
    metrics_port: int | None = None
    task_seconds: float = 6 * 3600.0
    log: str = "text"

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises InvalidSettings: a variable's value cannot be used."""
        found: dict[str, Any] = {
            "database_url": default_database_url(environment),
            "scratch": data_folder(environment) / "scratch",
        }
        for name, read in _READERS.items():
            variable = f"VIDEOMIND_{name.upper()}"
            if text := environment.get(variable):
                try:
                    found[name] = read(text)
                except ValueError as error:
                    raise InvalidSettings(f"{variable} is {text!r}: {error}") from error
        if found.get("broker_url") and "media_roots" not in found:
            found["media_roots"] = ()
        return cls(**found)


def default_database_url(environment: Mapping[str, str]) -> str:
    """The embedded database: one SQLite file in the user's data directory."""
    return f"sqlite:///{data_folder(environment) / 'videomind.db'}"


def data_folder(environment: Mapping[str, str]) -> Path:
    """Where this program keeps what belongs to the user."""
    home = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "videomind"


def _roots(text: str) -> tuple[Path, ...]:
    roots = tuple(Path(part) for part in text.split(os.pathsep) if part)
    if not all(root.is_absolute() for root in roots):
        raise ValueError("give absolute paths")
    return roots


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _positive(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError("give a number above 0")
    return value


def _count(text: str) -> int:
    return int(_positive(text))


def _log_format(text: str) -> str:
    if text not in ("text", "json"):
        raise ValueError("choose text or json")
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        ("database_url", "broker_url", "result_url", "checkpoint", "base", "device", "dtype"), str
    ),
    "media_roots": _roots,
    "allowed_networks": _networks,
    "scratch": Path,
    **dict.fromkeys(("scratch_bytes", "max_bytes", "decoder_bytes", "max_attempts", "metrics_port"), _count),
    **dict.fromkeys(
        ("fetch_seconds", "lease_seconds", "stalled_seconds", "sweep_seconds", "task_seconds"), _positive
    ),
    "log": _log_format,
}


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
