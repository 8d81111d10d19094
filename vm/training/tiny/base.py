"""The base from nothing: its language model learns to describe, find and answer what the tower sees."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, dropout
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vm.errors import TrainingError
from vm.model.timestamp_decoder import TimestampDecoder
from vm.text_file import write_json
from vm.training.lessons import Lesson
from vm.training.save import copy_companions
from vm.training.student import Layout, LossSums, Reading, Student, TokenIds, lay_out, predicting
from vm.training.tiny.bank import Bank, endless
from vm.training.tiny.base_lessons import About, BaseLesson, draw_sort
from vm.training.tiny.doings import DOINGS, asked_doings, doing_weights, frame_doings, token_doings
from vm.training.tiny.looking import looked_for, missed, watch
from vm.training.tiny.loop import Optimizer, Schedule, process_count, rank, train
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.sizes import DECODER_WIDTH, HIDDEN, base_config
from vm.training.tiny.vision import trained_tower
from vm.training.weights import base_tensors

DECODER = "decoder.safetensors"
_WATCHED_LAYER = 2  # whose states are to say what goes on, so that later layers can look it up there
_FRAME_WEIGHT, _TOKEN_WEIGHT, _ASKED_WEIGHT, _LOOKING_WEIGHT, _GROUNDING_WEIGHT = 0.1, 0.3, 0.1, 0.2, 1.0
_JUDGING_WEIGHT = 3.0  # of a Yes or No, which says little at a time
_DROPPED = 0.1  # of the video's features, so that clips are not learnt by heart


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
        watch(self.student.text_model)
        self.frame_norm, self.token_norm = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.frame_head, self.token_head = nn.Linear(HIDDEN, DOINGS), nn.Linear(HIDDEN, DOINGS)
        for head in (self.frame_head, self.token_head):
            nn.init.constant_(head.bias, -4.0)  # little goes on at a time

    def losses(self, taught: BaseLesson) -> dict[str, Tensor]:
        """Parts of the loss, each a mean, weighted."""
        lesson = replace(
            taught.lesson, features=dropout(taught.lesson.features, _DROPPED, training=self.training)
        )
        layout = lay_out(lesson, self.student.tokens)
        reading, inner = self._read(lesson)
        sums: LossSums = self.student.losses(lesson, reading)
        grounded = max(1, sum(bool(example.spans) for example in lesson.examples))
        frames = self._of_frame(reading.frame_states)
        tokens = self._of_token(inner[layout.ids == self.student.tokens.video])
        wanted = token_doings(taught.clip, taught.span, lesson.token_grid).flatten(0, 1)
        return {
            "language": (_JUDGING_WEIGHT if lesson.marked else 1.0) * sums.language / len(lesson.examples),
            "grounding": _GROUNDING_WEIGHT * (sums.total - sums.language) / grounded,
            "frames": _FRAME_WEIGHT * _missed(frames, frame_doings(taught.clip, taught.span, len(frames))),
            "tokens": _TOKEN_WEIGHT * _missed(tokens, wanted),
            "asked": _ASKED_WEIGHT * self._asked(taught, layout, reading, inner),
            "looking": _LOOKING_WEIGHT * self._looking(taught, layout),
        }

    def _looking(self, taught: BaseLesson, layout: Layout) -> Tensor:
        """How little is looked at where it goes on, when something is asked about."""
        asked = list(self._asked_at(taught, layout))
        if not asked:
            return torch.zeros(())
        lesson, tokens = taught.lesson, self.student.tokens
        wanted = [
            looked_for(taught.clip, taught.span, lesson.token_grid, about.event, about.where)
            for _, about, _ in asked
        ]
        places = [place for place, *_ in asked]
        return missed(self.student.text_model, layout, places, wanted, tokens.video).mean()

    def _asked_at(self, taught: BaseLesson, layout: Layout) -> Iterator[tuple[int, About, bool]]:
        """Where the words' states are to say what is asked for: the place in the sequence, what that is, and
        whether a span is to be found from there."""
        for number, (about, example) in enumerate(zip(taught.about, taught.lesson.examples, strict=False), 1):
            if about is not None:
                found = self.student.tokens.reg in example.reply
                which = example.reply.index(self.student.tokens.reg) if found else 0
                yield int(predicting(layout.owners, number, example)[which]), about, found

    def _asked(self, taught: BaseLesson, layout: Layout, reading: Reading, inner: Tensor) -> Tensor:
        """How ill the words' states say what is asked for, in the terms that the video's speak in: so that
        what is asked for and what is seen can be told to be the same."""
        parts = [reading.states.new_zeros(())]
        asked = list(self._asked_at(taught, layout))
        for place, about, found in asked:
            labels, known = asked_doings(about.event, about.text)
            parts.append(_missed(self._of_token(inner[place]), labels, known))
            if found:
                parts.append(_missed(self._of_frame(reading.states[place]), labels, known))
            elif about.where is not None and not taught.lesson.marked:
                # What is to be answered has to be there, whether or not the words knew it.
                parts.append(_missed(self._of_frame(reading.states[place]), labels))
        return torch.stack(parts).sum() / max(1, len(asked))

    def _of_frame(self, states: Tensor) -> Tensor:
        return self.frame_head(self.frame_norm(states))

    def _of_token(self, states: Tensor) -> Tensor:
        return self.token_head(self.token_norm(states))

    def _read(self, lesson: Lesson) -> tuple[Reading, Tensor]:
        """The lesson, read, and the states (N, hidden) behind an inner layer."""
        kept: list[Tensor] = []
        layer = self.model.model.language_model.layers[_WATCHED_LAYER]
        hook = layer.register_forward_hook(lambda _, __, output: kept.append(output))
        try:
            reading = self.student.read(lesson)
        finally:
            hook.remove()
        states = kept[0][0] if isinstance(kept[0], tuple) else kept[0]
        return reading, states.view(-1, HIDDEN)


def _missed(guessed: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """How ill the labels are guessed, as far as they are known."""
    weights = doing_weights() if known is None else doing_weights() * known
    return binary_cross_entropy_with_logits(guessed, labels, weights, reduction="none").sum(-1).mean()


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
    schedule = Schedule(steps, matrix_rate=3e-3, other_rate=2e-3, falling=0.3)
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
