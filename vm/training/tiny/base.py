"""The base from nothing: its language model learns to describe, find and answer what the tower sees."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vm.errors import TrainingError
from vm.model.timestamp_decoder import TimestampDecoder
from vm.text_file import write_json
from vm.training.save import copy_companions
from vm.training.student import LossSums, Reading, Student, TokenIds, lay_out
from vm.training.tiny.bank import Bank, endless
from vm.training.tiny.base_lessons import BaseLesson, draw_sort
from vm.training.tiny.doings import DOINGS, frame_doings, token_doings
from vm.training.tiny.loop import Optimizer, Schedule, process_count, rank, train
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.sizes import DECODER_WIDTH, HIDDEN, base_config
from vm.training.tiny.vision import trained_tower
from vm.training.weights import base_tensors

DECODER = "decoder.safetensors"
_WATCHED_LAYER = 2  # whose states are to say what goes on, so that later layers can look it up there
_FRAME_WEIGHT, _TOKEN_WEIGHT, _GROUNDING_WEIGHT = 0.1, 0.1, 1.0


class Learner(nn.Module):
    """The whole Qwen2-VL with a timestamp decoder, and heads that name what goes on.

    The heads are thrown away afterwards; the decoder is what the grounder's starts from.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        super().__init__()
        settings = Qwen2VLConfig.from_dict(
            {**base_config(ids), "torch_dtype": "float32"}
        )  # stored as float16
        self.model = Qwen2VLForConditionalGeneration(settings)
        tokens = TokenIds(
            *(ids[token] for token in ("<|video_pad|>", "<|reg|>", "<|seg_start|>", "<|seg_end|>"))
        )
        decoder = TimestampDecoder(HIDDEN, DECODER_WIDTH)
        self.student = Student(self.model.model.language_model, self.model.lm_head, tokens, decoder)
        self.frame_norm, self.token_norm = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.frame_head, self.token_head = nn.Linear(HIDDEN, DOINGS), nn.Linear(HIDDEN, DOINGS)
        for head in (self.frame_head, self.token_head):
            nn.init.constant_(head.bias, -4.0)  # little goes on at a time

    def losses(self, taught: BaseLesson) -> dict[str, Tensor]:
        """Parts of the loss, each a mean, weighted."""
        lesson = taught.lesson
        reading, seen = self._read(taught)
        sums: LossSums = self.student.losses(lesson, reading)
        grounded = max(1, sum(bool(example.spans) for example in lesson.examples))
        frames = self.frame_head(self.frame_norm(reading.frame_states))
        tokens = self.token_head(self.token_norm(seen))
        wanted = token_doings(taught.clip, taught.span, lesson.token_grid).flatten(0, 1)
        return {
            "language": sums.language / len(lesson.examples),
            "grounding": _GROUNDING_WEIGHT * (sums.total - sums.language) / grounded,
            "frames": _FRAME_WEIGHT * _missed(frames, frame_doings(taught.clip, taught.span, len(frames))),
            "tokens": _TOKEN_WEIGHT * _missed(tokens, wanted),
        }

    def _read(self, taught: BaseLesson) -> tuple[Reading, Tensor]:
        """The lesson, read, and the states of the video's tokens (T·H·W, hidden) behind an inner layer."""
        kept: list[Tensor] = []
        layer = self.model.model.language_model.layers[_WATCHED_LAYER]
        hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            reading = self.student.read(taught.lesson)
        finally:
            hook.remove()
        states = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        ids = lay_out(taught.lesson, self.student.tokens).ids
        return reading, states.view(-1, HIDDEN)[ids == self.student.tokens.video]


def _missed(guessed: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(guessed, labels, reduction="none").sum(-1).mean()


def train_base(
    tokenizer: Path, vision: Path, bank: Path, folder: Path, steps: int, lessons_per_step: int = 4
) -> None:
    """Train the language model over the bank, or go on; `folder` gets its state and log.

    Args:
        lessons_per_step: of each process.
    """
    pupil = Pupil.load(tokenizer)
    torch.manual_seed(0)
    learner = Learner(pupil.special_ids)
    learner.model.model.visual = trained_tower(vision)
    torch.manual_seed(rank())
    schedule = Schedule(steps, matrix_rate=3e-3, other_rate=2e-3, falling=0.5)
    optimizer = Optimizer(learner, schedule, plain=("embed_tokens", "_head"))

    def batches(step: int) -> Iterator[list[BaseLesson]]:
        shared, own = (random.Random(f"base {step} {who}") for who in ("all", rank()))  # noqa: S311
        numbers = endless(Bank(bank), f"base {step}", rank(), process_count())
        while True:
            yield [
                draw_sort(shared)(pupil, Bank(bank).load(next(numbers)), own) for _ in range(lessons_per_step)
            ]

    def loss_of(batch: list[BaseLesson]) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for taught in batch:
            parts = {name: part / len(batch) for name, part in learner.losses(taught).items()}
            torch.stack(list(parts.values())).sum().backward()
            sums = {name: sums.get(name, torch.tensor(0.0)) + part.detach() for name, part in parts.items()}
        return sums

    train(learner, optimizer, schedule, batches, loss_of, folder)  # type: ignore[arg-type]
    if rank() == 0:
        save_base(learner, pupil, tokenizer, folder / "base")


def save_base(learner: Learner, pupil: Pupil, tokenizer: Path, folder: Path) -> None:
    """Write the base in float16 as Qwen2-VL is published, and its decoder beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = base_tensors(learner.student, learner.model.model.visual)
    stored = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    assert learner.student.decoder is not None
    save_file(learner.student.decoder.state_dict(), folder.parent / DECODER)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", base_config(pupil.special_ids), TrainingError)
    copy_companions(tokenizer, folder)
