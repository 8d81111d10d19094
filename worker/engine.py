"""What a process makes once and keeps: its database, its model, and who works with them."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from celery import current_task

import vm
from vm.bundled import choose_checkpoint
from worker.analysis import Analyst
from worker.ingest import Registrar
from worker.jobs import Claim, Progress
from worker.settings import current
from worker.store import Store

if TYPE_CHECKING:
    from vm import VideoMind

log = logging.getLogger(__name__)


def store() -> Store:
    """The database the settings name."""
    return _store(current().database_url)


def loaded() -> VideoMind:
    """The model the settings name, or the bundled one.

    Raises:
        CheckpointError: it cannot be used.
    """
    chosen = current()
    return _load(
        chosen.checkpoint,
        chosen.base,
        chosen.device,
        chosen.dtype,
        chosen.feature_cache,
        chosen.feature_cache_bytes,
    )


def fingerprint() -> str:
    """Of that model, without loading it.

    Raises:
        CheckpointError: it cannot be used.
    """
    return _fingerprint(current().checkpoint, current().base)


@cache
def analyst() -> Analyst:
    """Answers, with the model of this process."""
    _warm_up()
    return Analyst(loaded(), store(), current(), _report)


@cache
def registrar() -> Registrar:
    """Takes in what is submitted."""
    _warm_up()
    return Registrar(store(), current(), fingerprint())


@cache
def _store(url: str) -> Store:
    return Store(url)


@lru_cache(maxsize=1)
def _load(
    checkpoint: str | None,
    base: str | None,
    device: str,
    dtype: str,
    feature_cache: Path | None,
    feature_cache_bytes: int,
) -> VideoMind:
    from vm.feature_cache import FeatureCache

    weights = choose_checkpoint(checkpoint, base, log.warning)
    kept = FeatureCache(feature_cache, feature_cache_bytes) if feature_cache else None
    return vm.VideoMind.load(weights, base=base, device=device, dtype=dtype, feature_cache=kept)


@cache
def _fingerprint(checkpoint: str | None, base: str | None) -> str:
    from vm.model.checkpoint import open_checkpoint

    return open_checkpoint(choose_checkpoint(checkpoint, base), base).fingerprint


def _warm_up() -> None:
    """The first video need not wait for what reads it to be started."""
    from vm.video import warm_up_decoders

    warm_up_decoders()


def _report(claim: Claim, reached: Progress) -> None:
    """For who watches the task's state, where there is a result backend."""
    if current_task and current().result_url:
        meta = {"analysis_id": claim.analysis_id, **asdict(reached)}
        current_task.update_state(state="PROGRESS", meta=meta)
