"""Checkpoint folders: what belongs to one, and whether all of it is there. Its tensors are not read here.

A base is a Qwen2-VL folder as transformers 4.45 or 5 writes it. A checkpoint is a folder in the layout
VideoMind is published in: `config.json`, tokenizer files, `roles.json`, one adapter folder per role,
and the timestamp decoder in `pytorch_model.safetensors`. Only safetensors and JSON are ever read.

Whoever wants to know a checkpoint without running it imports neither torch nor transformers for that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vm.errors import CheckpointError, CheckpointNotFound, UnknownModelType, UnsafeWeights
from vm.prompts import ROLES_FILE, RoleBook, load_role_book

BASE_MODEL_TYPE = "qwen2_vl"
CHECKPOINT_MODEL_TYPE = "agent_qwen2_vl"
DECODER_FILE = "pytorch_model.safetensors"
ADAPTER_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint found, read and checked, but for its tensors.

    `adapters` maps each role that has one to its folder; `fingerprint` is the sha256 over all
    weights and `roles.json`, in hexadecimal.
    """

    folder: Path
    base: Path
    config: Mapping[str, Any]
    base_config: Mapping[str, Any]
    book: RoleBook
    adapters: Mapping[str, Path]
    fingerprint: str

    @property
    def video_id(self) -> int:
        """Id of the token that stands for the video. Raises: CheckpointError."""
        found = self.base_config.get("video_token_id")
        if type(found) is not int:
            raise CheckpointError(f"{self.base / 'config.json'}: video_token_id is {found!r}, not a token id")
        return found

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a reply. Raises: CheckpointError."""
        path = self.folder / "generation_config.json"
        found = (read_json(path) if path.is_file() else self.base_config).get("eos_token_id")
        ids = found if isinstance(found, list) else [found]
        if not ids or any(type(item) is not int for item in ids):
            raise CheckpointError(f"{path}: eos_token_id is {found!r}, so no reply would end")
        return frozenset(ids)


def open_checkpoint(folder: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Find a checkpoint's parts and its base.

    Args:
        folder: the checkpoint.
        base: the base's folder or its name on the hub. Without it the base is looked for beside
            the checkpoint, and then on the hub.

    Raises:
        CheckpointNotFound, UnknownModelType, UnsafeWeights, InvalidRoles: see `vm.errors`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointNotFound(f"{folder} is not a folder: give the folder of a VideoMind checkpoint")
    config = _read_config(folder, CHECKPOINT_MODEL_TYPE)
    base_folder = find_base(folder, config, base)
    base_config = _read_config(base_folder, BASE_MODEL_TYPE)
    present = {path.name for path in folder.iterdir() if path.is_dir()}
    book = load_role_book(folder, present)
    adapters = {role: folder / role for role in book.roles if role in present}
    weights = [*weight_files(base_folder), *(_weights_in(path, ADAPTER_FILE) for path in adapters.values())]
    if "grounder" in adapters:
        weights.append(_weights_in(folder, DECODER_FILE))
    fingerprint = digest([*weights, folder / ROLES_FILE])
    return Checkpoint(folder, base_folder, config, base_config, book, adapters, fingerprint)


def find_base(folder: Path, config: Mapping[str, Any], base: str | Path | None) -> Path:
    """The base's folder: as given, or beside the checkpoint, or fetched from the hub by its name."""
    if base is not None and Path(base).is_dir():
        return Path(base)
    published = Path(str(config.get("base_model_path", ""))).name
    if base is None:
        for candidate in (folder / "base", folder.parent / "base", folder.parent / published):
            if (candidate / "config.json").is_file():
                return candidate
    name = str(base) if base is not None else f"Qwen/{published}"
    if not re.fullmatch(r"[\w.-]+/Qwen2-VL[\w.-]*", name):
        raise CheckpointNotFound(
            f"no base model for {folder}: {base or published!r} is neither a folder nor a Qwen2-VL on "
            "the hub; give the base's folder with --base"
        )
    from vm.hub import fetch_base  # only here does loading need the network

    return fetch_base(name)


def _read_config(folder: Path, model_type: str) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    found = config.get("model_type")
    if found != model_type:
        raise UnknownModelType(f"{folder / 'config.json'}: model_type is {found!r}, expected {model_type!r}")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint. Raises: CheckpointNotFound, CheckpointError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointNotFound(f"{path}: {error.strerror}; is the checkpoint complete?") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return content


def weight_files(base: Path) -> list[Path]:
    """A base's safetensors files, as its index names them.

    Raises:
        UnsafeWeights: weights are there only as a pickle. CheckpointNotFound: there are none.
    """
    index = base / "model.safetensors.index.json"
    if not index.is_file():
        return [_weights_in(base, "model.safetensors")]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_text, weight_map.values())):
        raise CheckpointError(f"{index} has no weight_map from tensors to files")
    return [_weights_in(base, Path(name).name) for name in sorted(set(weight_map.values()))]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _weights_in(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    pickles = [
        p.name for suffix in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for p in folder.glob(suffix)
    ]
    if pickles:
        raise UnsafeWeights(
            f"{folder} has its weights only as a pickle ({', '.join(sorted(pickles))}), which can run "
            f"code when read; convert it to {name}"
        )
    raise CheckpointNotFound(f"{path} is missing: is the checkpoint complete?")


def digest(files: Iterable[Path]) -> str:
    """sha256 over file contents in the given order, not over names or places; hexadecimal."""
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
