"""The base from nothing: its language model learns to describe and to answer what the frozen tower sees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vm.moments import Span
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import ACTIONS, COLOURS, KINDS
from vm.training.student import Student, TokenIds
from vm.training.tiny.bank import Bank, endless
from vm.training.tiny.base_lessons import Pupil, active_events, base_lesson
from vm.training.tiny.loop import Optimizer, Schedule, rank, train
from vm.training.tiny.sizes import HIDDEN, SPECIAL_TOKENS, base_config
from vm.training.tiny.vision import trained_tower

_COLOURS = list(COLOURS)
_KIND_ACTIONS = 0
_COLOUR_ACTIONS = len(KINDS) * len(ACTIONS)
_KIND_COLOURS = _COLOUR_ACTIONS + len(COLOURS) * len(ACTIONS)
DOINGS = _KIND_COLOURS + len(KINDS) * len(COLOURS)
_DOING_WEIGHT = 0.15


class Learner(nn.Module):
    """The whole Qwen2-VL, and a head that names what goes on in each temporal patch, thrown away afterwards.

    It names pairs (kind and action, colour and action, kind and colour), of which a combination never
    seen is made up as well as any other.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        settings = Qwen2VLConfig.from_dict({**config, "torch_dtype": "float32"})  # it is stored in float16
        self.model = Qwen2VLForConditionalGeneration(settings)
        tokens = TokenIds(config["video_token_id"], -1, -1, -1)
        self.student = Student(self.model.model.language_model, self.model.lm_head, tokens)
        self.norm = nn.LayerNorm(HIDDEN)
        self.doings = nn.Linear(HIDDEN, DOINGS)


def doing_labels(clip: Clip, span: Span, count: int) -> Tensor:
    """(count, DOINGS) of 0 and 1: what goes on in each of a view's temporal patches."""
    labels = torch.zeros(count, DOINGS)
    for patch in range(count):
        for event in active_events(clip, span.start + (patch + 0.5) / count * span.length):
            for actor in filter(None, (event.actor, event.other if event.action == "meet" else None)):
                kind, colour = KINDS.index(actor.kind), _COLOURS.index(actor.colour)
                action = ACTIONS.index(event.action)
                labels[patch, _KIND_ACTIONS + kind * len(ACTIONS) + action] = 1
                labels[patch, _COLOUR_ACTIONS + colour * len(ACTIONS) + action] = 1
                labels[patch, _KIND_COLOURS + kind * len(_COLOURS) + colour] = 1
    return labels


def train_base(
    tokenizer: Path, vision: Path, bank: Path, folder: Path, steps: int, lessons_per_step: int = 8
) -> None:
    """Train the language model over the bank, or go on; `folder` gets its state and log."""
    pupil = Pupil.load(tokenizer)
    torch.manual_seed(0)
    config = base_config(special_ids(pupil))
    learner = Learner(config)
    learner.model.model.visual = trained_tower(vision, config)
    schedule = Schedule(steps, falling=0.35)
    optimizer = Optimizer(learner, schedule, plain=("embed_tokens", "doings"))
    bank_ = Bank(bank)

    def batches(step: int) -> Iterator[list[tuple[Any, Clip, Span]]]:
        rng = random.Random(f"base {step} {rank()}")  # noqa: S311
        numbers = endless(bank_, f"{step} {rank()}")
        while True:
            batch = []
            for _ in range(lessons_per_step):
                footprint = bank_.load(next(numbers))
                lesson, span = base_lesson(pupil, footprint, rng)
                batch.append((lesson, footprint.clip, span))
            yield batch

    def loss_of(batch: list[tuple[Any, Clip, Span]]) -> dict[str, Tensor]:
        sums = {"language": torch.tensor(0.0), "doing": torch.tensor(0.0)}
        for lesson, clip, span in batch:
            reading = learner.student.read(lesson)
            language = torch.stack([losses.mean() for losses in reading.token_losses]).mean()
            guessed = learner.doings(learner.norm(reading.frame_states))
            labels = doing_labels(clip, span, len(guessed))
            lost = binary_cross_entropy_with_logits(guessed, labels, reduction="none").sum(-1).mean()
            ((language + _DOING_WEIGHT * lost) / len(batch)).backward()
            sums["language"] += language.detach() / len(batch)
            sums["doing"] += lost.detach() / len(batch)
        return sums

    train(learner, optimizer, schedule, batches, loss_of, folder)  # type: ignore[arg-type]
    if rank() == 0:
        save_base(learner.model, config, tokenizer, folder / "base")


def special_ids(pupil: Pupil) -> dict[str, int]:
    return {text: pupil.chat.token_id(text) for text in SPECIAL_TOKENS}


def save_base(model: Any, config: dict[str, Any], tokenizer: Path, folder: Path) -> None:
    """Write the base as transformers does, in float16, the tied head left out."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: w.half().contiguous() for n, w in model.state_dict().items() if n != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in ("tokenizer.json", "chat_template.json"):
        (folder / name).write_bytes((tokenizer / name).read_bytes())
