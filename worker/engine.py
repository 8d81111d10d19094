"""The model of this process: loaded when first needed, then kept."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import vm
from vm.bundled import choose_checkpoint
from worker.settings import current

if TYPE_CHECKING:
    from vm import VideoMind

log = logging.getLogger(__name__)


def loaded() -> VideoMind:
    """The model the settings name, or the bundled one.

    Raises:
        CheckpointError: it cannot be used.
    """
    chosen = current()
    return _load(chosen.checkpoint, chosen.base, chosen.device, chosen.dtype)


@lru_cache(maxsize=1)
def _load(checkpoint: str | None, base: str | None, device: str, dtype: str) -> VideoMind:
    weights = choose_checkpoint(checkpoint, base, log.warning)
    return vm.VideoMind.load(weights, base=base, device=device, dtype=dtype)
