"""What was trained → a checkpoint in the published layout, loadable at once.

Everything is written aside and then moved into place, `roles.json` last: until then the role is not in it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn

from vm.config import RoleSettings
from vm.errors import CheckpointError, TrainingError
from vm.model.checkpoint import (
    ADAPTER_FILE,
    CHECKPOINT_MODEL_TYPE,
    DECODER_FILE,
    read_json,
)
from vm.prompts import ROLES_FILE, RoleBook
from vm.text_file import write_json
from vm.training.student import Student
from vm.training.weights import adapter, base_tensors, decoder_tensors

Storage = Literal["float16", "float32"]
BASE_FOLDER = "base"
_DTYPES = {"float16": torch.float16, "float32": torch.float32}
# What a checkpoint has beside weights, config.json and roles.json.
_COMPANIONS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
)


def begin_checkpoint(folder: Path, base: Path, book: RoleBook) -> None:
    """A checkpoint of a base, with no role in it yet; tokens its tokenizer lacks are added.

    Args:
        folder: made if need be.
        book: the special tokens and the roles' settings.

    Raises:
        CheckpointError: the base's tokenizer cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy_companions(base, folder)
    tokens = {"reg_token_id": book.reg, "seg_s_token_id": book.seg_start, "seg_e_token_id": book.seg_end}
    ids = _add_tokens(folder / "tokenizer.json", tuple(tokens.values()))
    own = {"model_type": CHECKPOINT_MODEL_TYPE, "base_model": "qwen2_vl", "base_model_path": base.name}
    config = read_json(base / "config.json") | own | dict(zip(tokens, ids, strict=True))
    write_json(folder / "config.json", config, CheckpointError)
    write_book(folder, book)


def copy_companions(source: Path, target: Path) -> None:
    """Tokenizer, chat template and generation settings, as far as they are there."""
    for name in _COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _add_tokens(path: Path, tokens: tuple[str, ...]) -> list[int]:
    """The tokens' ids; those the tokenizer does not know are added at its end."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    missing = [token for token in tokens if tokenizer.token_to_id(token) is None]
    if missing:
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in missing])
        tokenizer.save(str(path))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    return [ids[token] for token in tokens]


def write_book(folder: Path, book: RoleBook) -> None:
    """`roles.json`, every setting spelt out."""
    tokens = {"reg": book.reg, "seg_start": book.seg_start, "seg_end": book.seg_end}
    roles = {name: dict(vars(settings)) for name, settings in book.roles.items()}
    write_json(folder / ROLES_FILE, {"special_tokens": tokens, "roles": roles}, CheckpointError)


def save_role(
    student: Student,
    role: str,
    settings: RoleSettings,
    begun: Path,
    out: Path,
    storage: Storage = "float16",
) -> None:
    """Write what a student has learnt (its decoder too) into a checkpoint, or into a new one, as `role`.

    A student of several roles is written as each of them.

    A student without LoRA, whose base is all its own, gets an adapter that changes nothing, so that the
    layout stays the published one.

    Args:
        begun: a checkpoint from `begin_checkpoint`, whose companions a new one gets.
        out: the checkpoint; a role of that name in it is replaced.

    Raises:
        TrainingError: a weight does not fit into `storage`.
        CheckpointError: the checkpoint cannot be written.
    """
    draft = out / f".{role}.partial"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        (draft / role).mkdir(parents=True)
        tensors, config = adapter(student)
        _write(tensors, draft / role / ADAPTER_FILE, storage)
        write_json(draft / role / "adapter_config.json", config, CheckpointError)
        if student.decoder is not None:
            _write(decoder_tensors(student.decoder), draft / DECODER_FILE, storage)
        _move_in(draft, begun, out, role)
        _enter_role(out, begun, role, settings)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_base(
    student: Student, visual: nn.Module, base: Path, begun: Path, out: Path, storage: Storage
) -> None:
    """Write a whole trained language model, with its vision tower, as the folder `base` of a checkpoint.

    Raises: as `save_role`.
    """
    draft = out / f".{BASE_FOLDER}.partial"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write(base_tensors(student, visual), draft / "model.safetensors", storage)
        copy_companions(begun, draft)
        config = _sized(read_json(base / "config.json"), len(student.head.weight))
        write_json(draft / "config.json", config, CheckpointError)
        shutil.rmtree(out / BASE_FOLDER, ignore_errors=True)
        os.replace(draft, out / BASE_FOLDER)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sized(config: dict[str, Any], rows: int) -> dict[str, Any]:
    """A base's settings with its vocabulary's size, wherever they tell it."""
    if isinstance(text := config.get("text_config"), dict):
        config = {**config, "text_config": {**text, "vocab_size": rows}}
    return {**config, "vocab_size": rows}


def _move_in(draft: Path, begun: Path, out: Path, role: str) -> None:
    if not (out / "config.json").exists():
        copy_companions(begun, out)
        shutil.copyfile(begun / "config.json", draft / "config.json")
        os.replace(draft / "config.json", out / "config.json")
    shutil.rmtree(out / role, ignore_errors=True)
    if (draft / DECODER_FILE).exists():
        os.replace(draft / DECODER_FILE, out / DECODER_FILE)
    os.replace(draft / role, out / role)


def _enter_role(out: Path, begun: Path, role: str, settings: RoleSettings) -> None:
    source = out if (out / ROLES_FILE).exists() else begun
    content = json.loads((source / ROLES_FILE).read_text(encoding="utf-8"))
    content.setdefault("roles", {})[role] = dict(vars(settings))
    write_json(out / ROLES_FILE, content, CheckpointError)


def _write(tensors: Mapping[str, Tensor], path: Path, storage: Storage) -> None:
    stored = {}
    for name, tensor in tensors.items():
        stored[name] = tensor.detach().to("cpu", _DTYPES[storage]).contiguous()
        if not stored[name].isfinite().all():
            raise TrainingError(f"{name} does not fit into {storage}: store the weights as float32")
    save_file(stored, path, metadata={"format": "pt"})
