"""Trains the bundled checkpoint's roles over the bank, with the trainer that `videomind train` uses."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from vm.mind import VideoMind
from vm.model.timestamp_decoder import best_spans
from vm.moments import Span
from vm.prompts import parse_role_book
from vm.scenes.wording import SceneQuestion
from vm.training.lessons import Lesson
from vm.training.save import begin_checkpoint, save_role
from vm.training.start import LoraSettings, lora_student
from vm.training.student import Student, TokenIds
from vm.training.tiny.bank import Bank
from vm.training.tiny.base_lessons import Pupil
from vm.training.tiny.role_lessons import grounder_lesson, localised, planner_lesson, some, verifier_lesson
from vm.training.tiny.sizes import DECODER_WIDTH, LORA_RANK, ROLES
from vm.training.trainer import StudentTrainer, TrainSettings
from vm.training.watching import JsonLines, ShownProgress

_CANDIDATES = 5
_NMS_IOU = 0.75
_ASKED_OF_CANDIDATE = 4


class RoleLessons(Dataset[Lesson]):
    """Lessons of one role, each decided by its number.

    Args:
        count: how many.
    """

    def __init__(self, role: str, pupil: Pupil, bank: Bank, count: int, found: Path) -> None:
        self._role, self._pupil, self._bank, self._count = role, pupil, bank, count
        self._numbers = bank.numbers()
        self._found = read_found(found) if role == "verifier" else []

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Lesson:
        rng = random.Random(f"{self._role} {index}")  # noqa: S311
        if self._role == "verifier":
            return self._verify(rng)
        footprint = self._bank.load(self._numbers[index % len(self._numbers)])
        if self._role == "planner":
            return planner_lesson(self._pupil, footprint, rng)
        return grounder_lesson(self._pupil, footprint, some(localised(footprint, rng), rng))

    def _verify(self, rng: random.Random) -> Lesson:
        number, asked, spans = rng.choice(self._found)
        footprint = self._bank.load(number)
        others = localised(footprint, rng)
        questions = [asked, *rng.sample(others, min(_ASKED_OF_CANDIDATE - 1, len(others)))]
        return verifier_lesson(self._pupil, footprint, rng.choice(spans), questions)


def train_tiny_role(role: str, folder: Path, base: Path, bank: Bank, settings: TrainSettings) -> None:
    """Train a role on `base` and put it into the checkpoint `folder / "checkpoint"`."""
    checkpoint, run = folder / "checkpoint", folder / role
    begin_checkpoint(folder / "begun", base, parse_role_book({"roles": ROLES}))
    mind = VideoMind.load(folder / "begun", base, "cpu", "float32")
    student = lora_student(
        mind.cast.backbone,
        role,
        _tokens(mind),
        LoraSettings(LORA_RANK, LORA_RANK, 0.0),
        "new" if role in ("grounder", "verifier") else "none",
        DECODER_WIDTH,
    )
    steps = settings.max_steps or 1
    count = steps * settings.batch_size * settings.accumulation
    lessons = RoleLessons(role, Pupil.load(base), bank, count, folder / "found.jsonl")
    StudentTrainer(
        student, lessons, settings, run, "cpu", [ShownProgress(), JsonLines(run / "metrics.jsonl")]
    ).teach()
    with torch.no_grad():
        save_role(student, role, mind.cast.settings(role), folder / "begun", checkpoint)


def _tokens(mind: VideoMind) -> TokenIds:
    return TokenIds(mind.cast.backbone.video_id, mind.cast.reg, *mind.markers)


@torch.no_grad()
def find_candidates(folder: Path, base: Path, bank: Bank, count: int) -> None:
    """Run the grounder over `count` clips of the bank; its five best spans go to `found.jsonl`."""
    mind = VideoMind.load(folder / "checkpoint", base, "cpu", "float32")
    student = lora_student(
        mind.cast.backbone, "grounder", _tokens(mind), LoraSettings(LORA_RANK, LORA_RANK, 0.0), "new"
    ).eval()
    pupil = Pupil.load(base)
    partial = folder / "found.partial"
    with partial.open("w") as lines:
        for number in bank.numbers()[-count:]:
            for question, spans in _found(student, pupil, bank, number):
                row = {"number": number, "question": vars(question) | {"spans": _pairs(question.spans)}}
                lines.write(json.dumps(row | {"found": _pairs(spans)}) + "\n")
    partial.replace(folder / "found.jsonl")


def _found(
    student: Student, pupil: Pupil, bank: Bank, number: int
) -> Iterator[tuple[SceneQuestion, list[Span]]]:
    footprint = bank.load(number)
    asked = localised(footprint, random.Random(f"grounder found {number}"))  # noqa: S311
    reading = student.read(grounder_lesson(pupil, footprint, asked))
    duration = footprint.clip.duration
    assert student.decoder is not None
    for question, state in zip(asked, reading.reg_states, strict=True):
        assert state is not None
        output = student.decoder(reading.frame_states, state[None])
        spans, _ = best_spans(output, _NMS_IOU, _CANDIDATES)
        yield question, [Span.clamped(a * duration, b * duration, duration) for a, b in spans.tolist()]


def _pairs(spans: Sequence[Span]) -> list[tuple[float, float]]:
    return [(span.start, span.end) for span in spans]


def read_found(path: Path) -> list[tuple[int, SceneQuestion, list[Span]]]:
    """What `find_candidates` wrote."""
    rows = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        spans = tuple(Span(*span) for span in row["question"]["spans"])
        question = SceneQuestion(**{**row["question"], "spans": spans})
        rows.append((row["number"], question, [Span(*span) for span in row["found"]]))
    return rows
