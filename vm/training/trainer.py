"""The trainer: transformers' own, taught to count examples, to keep only what is trained, and to go on.

Knows lessons and a student; knows no files of rows, no prompts and no checkpoint layout.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from vm.errors import TrainingError
from vm.training.lessons import Lesson
from vm.training.student import LossSums, Student

_WEIGHTS = "trained.safetensors"
_STATE = "trainer_state.json"
_PARTIAL = ".partial"


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast. Rates, warm-up, schedule and decay are as published unless given.

    `batch_size` counts lessons per device, `accumulation` batches per step, `warmup` is a fraction of all
    steps; `max_steps` overrides `epochs`. The decoder, embeddings and head learn at
    `decoder_learning_rate` (the same as all else where it is None). `bf16` None is where CUDA has it.
    """

    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 1
    accumulation: int = 4
    learning_rate: float = 1e-4
    decoder_learning_rate: float | None = None
    weight_decay: float = 0.0
    warmup: float = 0.03
    max_gradient_norm: float = 1.0
    gradient_checkpointing: bool = False
    bf16: bool | None = None
    log_every: int = 10
    save_every: int = 500
    keep: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.batch_size, self.accumulation, self.log_every, self.save_every, self.keep)
        if min(counts) < 1 or (self.max_steps is not None and self.max_steps < 1) or not self.epochs > 0:
            raise TrainingError(
                "epochs, steps, batch size, accumulation, log, save and keep must be positive"
            )
        rates = (self.learning_rate, self.new_rate)
        if not min(rates) > 0 or not 0 <= self.warmup < 1 or self.weight_decay < 0:
            raise TrainingError("rates must be positive, weight decay not negative, and warm-up a fraction")

    @property
    def new_rate(self) -> float:
        """Of the decoder, embeddings and head."""
        return self.learning_rate if self.decoder_learning_rate is None else self.decoder_learning_rate


class StudentTrainer(Trainer):
    """Teaches a student from any dataset of lessons.

    Every example counts the same, however many of them a lesson, a batch or a device has.

    Args:
        folder: gets `checkpoint-N` folders.
        device: whose CUDA device or CPU is used: "cpu", or anything else for CUDA where there is one.
    """

    optimizer: Any

    def __init__(
        self,
        student: Student,
        lessons: Dataset[Lesson],
        settings: TrainSettings,
        folder: Path,
        device: str = "auto",
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self._settings = settings
        self._unlogged: LossSums | None = None
        self._aside: Path | None = None
        if settings.gradient_checkpointing:
            student.save_memory()
        super().__init__(
            model=student,
            args=_arguments(settings, folder, device, student.decoder is not None),
            train_dataset=lessons,
            data_collator=_as_batch,
            callbacks=list(callbacks),
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # losses are divided by the number of examples of a step

    def teach(self) -> None:
        """Train to the end, from the newest whole checkpoint in the folder where there is one.

        Raises:
            TrainingError: the loss is no number any more, or the checkpoint is of another student.
        """
        shutil.rmtree(Path(self.args.output_dir) / _PARTIAL, ignore_errors=True)
        newest = newest_checkpoint(Path(self.args.output_dir))
        if newest is not None and _is_last(newest):
            self._load_from_checkpoint(str(newest))
        else:
            self.train(resume_from_checkpoint=str(newest) if newest else None)

    # What follows replaces methods of transformers' Trainer.

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(_parameter_groups(self.model, self._settings), **options)
        return self.optimizer

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> Tensor:
        """How many examples a step has, over all devices."""
        count = sum(len(lesson.examples) for batch in batch_samples for lesson in batch["lessons"])
        counted = torch.tensor(count, device=device)
        return self.accelerator.reduce(counted, "sum") if self.args.world_size > 1 else counted

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        sums: LossSums = model(**inputs)
        if self.model.training:
            noted = sums.detached()
            self._unlogged = noted if self._unlogged is None else self._unlogged + noted
        # Gradients are averaged over devices, and the examples of all of them are in the count.
        scale = self.args.world_size / (num_items_in_batch or sums.examples)
        loss = sums.total * scale
        return (loss, sums) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._unlogged is not None:
            logs |= self._means(self._unlogged)
            self._unlogged = None
            rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
            logs |= {
                "learning_rate": rates.get("adapter", 0.0),
                "decoder_learning_rate": rates.get("new", 0.0),
            }
            self._check(logs["loss"])
        super().log(logs, start_time)

    def _means(self, sums: LossSums) -> dict[str, float]:
        """Each loss per example, over all devices."""
        parts = ("language", "classification", "boundary", "contrastive")
        values = torch.stack([*(getattr(sums, part) for part in parts), sums.total.new_tensor(sums.examples)])
        if self.args.world_size > 1:
            values = self.accelerator.reduce(values, "sum")
        return {part: float(value / values[-1]) for part, value in zip(parts, values, strict=False)}

    def _check(self, loss: float) -> None:
        if not torch.isfinite(torch.tensor(loss)):
            raise TrainingError(
                f"the loss is {loss} at step {self.state.global_step}: train with a lower learning rate"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Written aside and moved into place, so that a checkpoint that is there is whole."""
        self._check(float(self._tr_loss))
        folder = Path(self.args.output_dir)
        with self._writing_to(folder / _PARTIAL):
            super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder / name, ignore_errors=True)
            os.replace(folder / _PARTIAL / name, folder / name)
            for old in _checkpoints(folder)[: -self._settings.keep]:
                shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _writing_to(self, folder: Path) -> Iterator[None]:
        self._aside = folder
        try:
            yield
        finally:
            self._aside = None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._aside or self.args.output_dir)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """What is trained, and nothing else."""
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name: weight.detach().contiguous() for name, weight in _trained(self.model)}
        save_file(trained, folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        expected = {name: weight.shape for name, weight in _trained(self.model)}
        if expected != {name: weight.shape for name, weight in saved.items()}:
            raise TrainingError(f"{resume_from_checkpoint} is of a run with other settings; start a new one")
        self.model.load_state_dict(saved, strict=False)


def newest_checkpoint(folder: Path) -> Path | None:
    """Of a run; they are whole, since they are moved into place."""
    return next(reversed(_checkpoints(folder)), None)


def _checkpoints(folder: Path) -> list[Path]:
    """Oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name[11:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[11:]))


def _is_last(checkpoint: Path) -> bool:
    """Whether training had reached its end."""
    state = json.loads((checkpoint / _STATE).read_text())
    return bool(state["global_step"] >= state["max_steps"])


def _trained(student: torch.nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, weight) for name, weight in student.named_parameters() if weight.requires_grad]


def _parameter_groups(student: torch.nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """By rate (what was there, and what is new) and by whether they decay (matrices, not embeddings)."""
    rates = {"adapter": settings.learning_rate, "new": settings.new_rate}
    groups: dict[tuple[str, bool], list[Tensor]] = {}
    for name, weight in _trained(student):
        new = name.startswith(("decoder.", "head.")) or "embed_tokens" in name
        decays = weight.ndim > 1 and not ("embed_tokens" in name or name.startswith("head."))
        groups.setdefault(("new" if new else "adapter", decays), []).append(weight)
    return [
        {"params": weights, "lr": rates[name], "name": name, "weight_decay": settings.weight_decay * decays}
        for (name, decays), weights in groups.items()
    ]


def _as_batch(lessons: list[Lesson]) -> dict[str, list[Lesson]]:
    return {"lessons": lessons}


def _arguments(settings: TrainSettings, folder: Path, device: str, may_idle: bool) -> TrainingArguments:
    """`may_idle` tells of parameters that some lessons do not use, such as the decoder's."""
    cuda = device != "cpu" and torch.cuda.is_available()
    bf16 = cuda and torch.cuda.is_bf16_supported() if settings.bf16 is None else settings.bf16
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type="cosine",
        max_grad_norm=settings.max_gradient_norm,
        optim="adamw_torch",
        bf16=bf16,
        use_cpu=not cuda,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_steps=settings.save_every,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=may_idle,
        disable_tqdm=True,
        report_to=[],
        log_level="error",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several devices are used as several processes (torchrun)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    return arguments
