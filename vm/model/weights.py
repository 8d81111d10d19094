"""A checkpoint's files to tensors and settings. The only place that knows weight names other than ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vm.errors import CheckpointError, TensorMismatch, UnsafeWeights
from vm.model.checkpoint import read_json

# Published names (left) to the names of today's transformers (right), applied in order.
RENAMES = (
    (re.compile(r"^base_model\.model\."), ""),
    (re.compile(r"^visual\."), "model.visual."),
    (re.compile(r"^model\.(?=(layers|embed_tokens|norm)(\.|$))"), "model.language_model."),
)

# One read touches at most this much of a file at a time, so that loading needs little beside the weights.
_CHUNK_BYTES = 32 * 2**20


def rename(name: str) -> str:
    """A published weight or module name as today's transformers has it."""
    for pattern, replacement in RENAMES:
        name = pattern.sub(replacement, name)
    return name


def publish(name: str) -> str:
    """Today's name as published bases have it: the inverse of `rename`, but for the adapters' prefix."""
    return name.replace("model.visual.", "visual.", 1).replace("model.language_model.", "model.", 1)


def publish_adapted(name: str) -> str:
    """Today's name as published adapters and decoders have it."""
    return f"base_model.model.{publish(name)}"


def read_lora_config(path: Path) -> LoraConfig:
    """A published adapter's settings under today's module names. Raises: CheckpointError."""
    given = read_json(path)
    if given.get("peft_type") != "LORA" or given.get("use_dora") or given.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: only plain LoRA adapters are run")
    targets = given.get("target_modules")
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise CheckpointError(f"{path}: target_modules must be a list of module names")
    try:
        return LoraConfig(
            r=int(given["r"]),
            lora_alpha=float(given["lora_alpha"]),
            target_modules=[rename(target) for target in targets],
            use_rslora=bool(given.get("use_rslora", False)),
            rank_pattern={rename(k): v for k, v in (given.get("rank_pattern") or {}).items()},
            alpha_pattern={rename(k): v for k, v in (given.get("alpha_pattern") or {}).items()},
        )
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def read_tensors(
    files: Iterable[Path],
    shapes: Mapping[str, torch.Size],
    dtype: torch.dtype,
    device: torch.device,
    optional: frozenset[str] = frozenset(),
) -> dict[str, Tensor]:
    """Exactly the tensors expected, in `dtype` on `device`, under today's names.

    Args:
        shapes: every expected name and its shape.
        optional: names that may be missing.

    Raises:
        TensorMismatch: naming the file and the tensor that is missing, unexpected or wrongly shaped.
        UnsafeWeights: a file is not safetensors.
    """
    tensors: dict[str, Tensor] = {}
    files = list(files)
    for path in files:
        for published, shape in _stored_shapes(path).items():
            name = rename(published)
            if name not in shapes:
                raise TensorMismatch(f"{path}: unexpected tensor {published}")
            if tuple(shape) != tuple(shapes[name]):
                raise TensorMismatch(
                    f"{path}: tensor {published} has shape {tuple(shape)}, expected {tuple(shapes[name])}"
                )
            tensors[name] = _read_tensor(path, published, shape, dtype).to(device)
    missing = sorted(set(shapes) - set(tensors) - optional)
    if missing:
        where = files[0].parent if len(files) > 1 else files[0]
        raise TensorMismatch(f"{where}: missing tensor {missing[0]} ({len(missing)} missing in all)")
    return tensors


def stored_shape(path: Path, name: str) -> tuple[int, ...] | None:
    """The shape of one tensor (today's name) in a file, or None where it is not there."""
    shapes = {rename(published): shape for published, shape in _stored_shapes(path).items()}
    return shapes.get(name)


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UnsafeWeights(f"{path} is not a whole safetensors file ({error}); fetch it again") from error


def _read_tensor(path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Opened anew for each stretch: pages of a mapped file count as resident until it is closed."""
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.ndim == 0:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name).to(dtype)
    rows = max(1, _CHUNK_BYTES // max(1, tensor[:1].numel() * 4))
    for start in range(0, len(tensor), rows):
        with safe_open(path, framework="pt") as file:
            tensor[start : start + rows] = file.get_slice(name)[start : start + rows]
    return tensor
