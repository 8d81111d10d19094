"""The model of this process: loaded when first needed, then kept."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import vm
from vm.errors import CheckpointNotFound
from worker.settings import current

if TYPE_CHECKING:
    from vm import VideoMind


def loaded() -> VideoMind:
    """The model the settings name.

    Raises:
        CheckpointError: none is named, or it cannot be used.
    """
    chosen = current()
    if chosen.checkpoint is None:
        raise CheckpointNotFound("no checkpoint given: pass --checkpoint DIR, or set VIDEOMIND_CHECKPOINT")
    return _load(chosen.checkpoint, chosen.base, chosen.device, chosen.dtype)


@lru_cache(maxsize=1)
def _load(checkpoint: str, base: str | None, device: str, dtype: str) -> VideoMind:
    return vm.VideoMind.load(checkpoint, base=base, device=device, dtype=dtype)
