"""The checkpoint that comes with this program: what is used where none is named. Knows no tensors.

It is small, was trained in the synthetic world of `vm.scenes`, and knows nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vm.errors import CheckpointError, CheckpointNotFound

BUNDLED_CHECKPOINT = Path(__file__).parent / "checkpoints" / "tiny"
BUNDLED_NOTICE = (
    "no checkpoint was given, so the bundled one is used, which knows only the synthetic world it was "
    "trained in; `videomind pull` gets real weights, and --checkpoint or VIDEOMIND_CHECKPOINT names them"
)

_PARTS = (
    "config.json",
    "roles.json",
    "tokenizer.json",
    "chat_template.json",
    "pytorch_model.safetensors",
    *(f"{role}/adapter_model.safetensors" for role in ("planner", "grounder", "verifier")),
    "base/config.json",
    "base/model.safetensors",
)


def _silent(line: str) -> None:
    """Nobody is told."""


def choose_checkpoint(
    checkpoint: str | Path | None, base: str | Path | None, tell: Callable[[str], None] = _silent
) -> Path:
    """The checkpoint that is named, or else the bundled one.

    Args:
        base: the base that is named; the bundled checkpoint has its own and takes no other.
        tell: called with a sentence for the user where it is the bundled one.

    Raises:
        CheckpointNotFound: the bundled one is not whole. CheckpointError: only a base is named.
    """
    if checkpoint is not None:
        return Path(checkpoint)
    if base is not None:
        raise CheckpointError(
            f"{base} is given as the base, but no checkpoint that goes with it: name one with --checkpoint "
            "or VIDEOMIND_CHECKPOINT, or leave out --base and VIDEOMIND_BASE to use the bundled one"
        )
    missing = next((part for part in _PARTS if not (BUNDLED_CHECKPOINT / part).is_file()), None)
    if missing is not None:
        raise CheckpointNotFound(
            f"no checkpoint was given, and the bundled one is not whole ({BUNDLED_CHECKPOINT / missing} is "
            "missing): install this program again, or name a checkpoint with --checkpoint or "
            "VIDEOMIND_CHECKPOINT; `videomind pull` gets one"
        )
    tell(BUNDLED_NOTICE)
    return BUNDLED_CHECKPOINT
