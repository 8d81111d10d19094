"""One role, from a base and rows to a checkpoint: what `videomind train` does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback, set_seed

from vm.config import PUBLISHED_ROLES, RoleSettings
from vm.errors import InvalidRoles, OutOfMemory, TrainingError
from vm.mind import VideoMind
from vm.model.checkpoint import ADAPTER_FILE, DECODER_FILE, digest, read_json, weight_files
from vm.model.timestamp_decoder import HEADS
from vm.prompts import PROMPTED_ROLES, ROLE_NAME, ROLES_FILE, RoleBook, parse_role_book
from vm.text_file import write_json
from vm.training.assignments import assign
from vm.training.data import LessonBook
from vm.training.feature_store import FeatureStore
from vm.training.rows import BadRows, usable_rows
from vm.training.save import Storage, begin_checkpoint, copy_companions, save_base, save_role
from vm.training.start import (
    DECODER_WIDTH,
    Embeddings,
    LoraSettings,
    default_embeddings,
    full_student,
    lora_student,
)
from vm.training.student import Student, TokenIds
from vm.training.trainer import StudentTrainer, TrainSettings
from vm.training.watching import JsonLines, ShownProgress, TensorBoard

Report = Callable[[str], None]
_RUN_FILE = "run.json"
_DECISIVE = ("role", "full", "embeddings", "decoder_width", "bad_rows", "pack_tokens")
_HARMLESS = ("log_every", "save_every", "keep", "gradient_checkpointing")


@dataclass(frozen=True)
class Recipe:
    """All that decides how a role is trained.

    Attributes:
        base: a Qwen2-VL folder.
        data: JSON lines; see `vm.training.rows`.
        out: the checkpoint the role goes into; made if need be.
        run: what the run keeps: checkpoints to go on from, features, metrics.
        roles: a `roles.json` with the prompts and budgets of a new checkpoint.
        prompt: the role's prompt, instead of one that is in `roles` or `out`.
        start: a checkpoint whose adapter of the role is gone on with.
        embeddings: None is what is published for the role.
        full: train the whole language model, and write a base beside the role.
        pack_tokens: of questions and replies read behind one video at once.
    """

    role: str
    base: Path
    data: Path
    out: Path
    run: Path
    roles: Path | None = None
    prompt: str | None = None
    start: Path | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    embeddings: Embeddings | None = None
    decoder_width: int = DECODER_WIDTH
    full: bool = False
    training: TrainSettings = field(default_factory=TrainSettings)
    bad_rows: BadRows = "fail"
    pack_tokens: int = 2048
    storage: Storage = "float16"
    device: str = "auto"
    dtype: str = "auto"
    memory_bytes: int = 2 * 2**30
    disk_bytes: int = 50 * 2**30

    def __post_init__(self) -> None:
        if not ROLE_NAME.fullmatch(self.role):
            raise TrainingError(f"{self.role!r} cannot name a role: use small letters, digits, - and _")
        if self.decoder_width % HEADS:
            raise TrainingError(f"the decoder's width must be a multiple of {HEADS}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise TrainingError("train on auto, cpu or cuda; CUDA_VISIBLE_DEVICES chooses among GPUs")
        if self.full and (self.start or self.embeddings):
            raise TrainingError("a full model is trained with all its embeddings, from its base")


def train_role(recipe: Recipe, report: Report) -> bool:
    """Train, or go on, to the end, and write the role into the checkpoint.

    Several processes (torchrun) share the work; the first of them writes.

    Args:
        report: gets a line for every row and video that is skipped.

    Returns:
        whether this process is the one that has written the checkpoint.

    Raises:
        TrainingError, TrainingDataError, CheckpointError, OutOfMemory: see `vm.errors`.
    """
    _check_room(recipe)
    try:
        return _train(recipe, report)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "the device has no memory left for training: lower --batch-size or --pack-tokens, or use "
            "--gradient-checkpointing"
        ) from error
    except OSError as error:
        raise TrainingError(f"{recipe.run}: cannot be written: {error.strerror}") from error


def _train(recipe: Recipe, report: Report) -> bool:
    state = PartialState(cpu=recipe.device == "cpu")
    rows = usable_rows(
        recipe.data, recipe.role, recipe.bad_rows, report if state.is_main_process else _silent
    )
    with state.main_process_first():
        begun = recipe.run / "checkpoint"
        if state.is_main_process:
            _begin(recipe, begun)
        mind = VideoMind.load(begun, recipe.base, recipe.device, recipe.dtype)
        _claim_run(recipe, mind.cast.settings(recipe.role))
    set_seed(recipe.training.seed)
    student = _student(recipe, mind)
    assignments = assign(mind.cast, recipe.role, rows, recipe.pack_tokens)
    store = FeatureStore(recipe.run / "features", recipe.memory_bytes, recipe.disk_bytes)
    lessons = LessonBook(mind, recipe.role, assignments, store, report)
    with closing(ShownProgress()) as progress:
        callbacks = [progress, JsonLines(recipe.run / "metrics.jsonl"), *_tensorboard(recipe.run)]
        StudentTrainer(student, lessons, recipe.training, recipe.run, recipe.device, callbacks).teach()
    if state.is_main_process:
        _save(recipe, mind, student, begun)
    state.wait_for_everyone()
    return bool(state.is_main_process)


def _check_room(recipe: Recipe) -> None:
    """A whole model cannot share a checkpoint: its base would be the others' too."""
    others = [f.parent.name for f in recipe.out.glob("*/adapter_config.json") if f.parent.name != recipe.role]
    if recipe.full and others:
        raise TrainingError(f"{recipe.out} has other roles ({', '.join(sorted(others))}); give another --out")


def _begin(recipe: Recipe, begun: Path) -> None:
    """A checkpoint without adapters, but for the one gone on with: what training runs on."""
    shutil.rmtree(begun, ignore_errors=True)
    before = next((f for f in (recipe.out, recipe.start) if f and (f / "config.json").is_file()), None)
    book = _book(recipe, before)
    begin_checkpoint(begun, recipe.base, book)
    if before is not None:
        copy_companions(before, begun)
        shutil.copyfile(before / "config.json", begun / "config.json")
    if recipe.start is not None:
        _copy_role(recipe.start, begun, recipe.role)


def _copy_role(start: Path, begun: Path, role: str) -> None:
    try:
        shutil.copytree(start / role, begun / role)
        if role == "grounder":
            shutil.copyfile(start / DECODER_FILE, begun / DECODER_FILE)
    except OSError as error:
        raise TrainingError(f"{start} has no whole {role} to go on with") from error


def _book(recipe: Recipe, before: Path | None) -> RoleBook:
    """The prompts and budgets of the roles file, or else of the checkpoint; a given prompt goes before."""
    source = recipe.roles or (before / ROLES_FILE if before else None)
    content = read_json(source) if source else {}
    roles = content.setdefault("roles", {})
    if isinstance(roles, dict) and recipe.prompt is not None:
        roles[recipe.role] = {**roles.get(recipe.role, {}), "prompt": recipe.prompt}
    if recipe.role not in roles and (recipe.role in PROMPTED_ROLES or recipe.role not in PUBLISHED_ROLES):
        raise InvalidRoles(f"the {recipe.role} has no prompt: give --prompt, or --roles with a roles.json")
    try:
        return parse_role_book(content, {recipe.role})
    except (ValueError, TypeError) as error:
        raise InvalidRoles(f"{source or '--prompt'}: {error}") from error


def _claim_run(recipe: Recipe, settings: RoleSettings) -> None:
    """One folder, one run: what would learn something else must not go on from its checkpoints."""
    what = _decisive(recipe, settings)
    path = recipe.run / _RUN_FILE
    if not path.exists():
        write_json(path, what, TrainingError)
    changed = sorted(key for key, value in read_json(path).items() if what.get(key) != value)
    if changed:
        raise TrainingError(
            f"{recipe.run} holds a run with other {', '.join(changed)}; give another --run, or remove it"
        )


def _decisive(recipe: Recipe, settings: RoleSettings) -> dict[str, Any]:
    """All that decides what is learnt, as JSON has it."""
    started = [recipe.start / recipe.role / ADAPTER_FILE] if recipe.start else []
    contents = {"base": weight_files(recipe.base), "data": [recipe.data], "from": started}
    chosen = {key: getattr(recipe, key) for key in _DECISIVE}
    lora = {f"lora_{key}": value for key, value in vars(recipe.lora).items()}
    training = {key: value for key, value in vars(recipe.training).items() if key not in _HARMLESS}
    digests = {key: digest(files) for key, files in contents.items()}
    as_stored: dict[str, Any] = json.loads(json.dumps(chosen | digests | lora | training | vars(settings)))
    return as_stored


def _student(recipe: Recipe, mind: VideoMind) -> Student:
    cast = mind.cast
    tokens = TokenIds.of(mind)
    if recipe.full:
        return full_student(cast.backbone, recipe.role, tokens, recipe.decoder_width)
    embeddings = recipe.embeddings or default_embeddings(recipe.role)
    return lora_student(cast.backbone, recipe.role, tokens, recipe.lora, embeddings, recipe.decoder_width)


def _tensorboard(run: Path) -> list[TrainerCallback]:
    try:
        return [TensorBoard(run / "tensorboard")]
    except ImportError:
        return []


def _save(recipe: Recipe, mind: VideoMind, student: Student, begun: Path) -> None:
    settings: RoleSettings = mind.cast.settings(recipe.role)
    recipe.out.mkdir(parents=True, exist_ok=True)
    if recipe.full:
        visual = mind.cast.backbone.model.model.visual
        save_base(student, visual, recipe.base, begun, recipe.out, recipe.storage)
    with torch.no_grad():
        save_role(student, recipe.role, settings, begun, recipe.out, recipe.storage)


def _silent(line: str) -> None:
    """Another process tells it."""
