"""Trains the bundled checkpoint's roles over the bank, with the trainer that `videomind train` uses."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset

from vm.mind import VideoMind
from vm.prompts import parse_role_book
from vm.training.lessons import Lesson
from vm.training.save import BASE_FOLDER, begin_checkpoint, save_base, save_role
from vm.training.start import Embeddings, LoraSettings, full_student, lora_student
from vm.training.student import Student, TokenIds
from vm.training.tiny.bank import Bank, Footprint
from vm.training.tiny.base import DECODER
from vm.training.tiny.candidates import Proposal, read_proposals
from vm.training.tiny.loop import process_count, rank
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_lessons import (
    ASKED,
    grounder_lesson,
    guessed_candidate,
    judged,
    localised,
    planner_lesson,
    some,
    verifier_lesson,
)
from vm.training.tiny.sizes import DECODER_WIDTH, LORA_RANK, ROLES
from vm.training.trainer import StudentTrainer, TrainSettings
from vm.training.watching import JsonLines, ShownProgress

_JUDGED = 8  # questions behind one candidate
_PROPOSED_SHARE = 0.5  # how often the candidate is the grounder's, not a guess
_BEST_SHARE = 0.5  # how often the candidate is the one that fits best


@dataclass(frozen=True)
class Course:
    """What one student learns. `roles` take turns, each as often as it stands there.

    `full` trains a whole language model in place of an adapter.
    """

    roles: tuple[str, ...]
    settings: TrainSettings
    full: bool = False

    @property
    def lessons(self) -> int:
        return (self.settings.max_steps or 1) * self.settings.batch_size * self.settings.accumulation


@dataclass(frozen=True)
class Folders:
    """Where the steps' results are."""

    root: Path

    @property
    def base(self) -> Path:
        return self.root / "base" / "base"

    @property
    def bank(self) -> Bank:
        return Bank(self.root / "bank")

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"

    @property
    def proposals(self) -> Path:
        return self.root / "proposals.jsonl"


class RoleLessons(Dataset[Lesson]):
    """A course's lessons, each decided by its number."""

    def __init__(self, course: Course, pupil: Pupil, folders: Folders) -> None:
        self._course, self._pupil, self._bank = course, pupil, folders.bank
        self._numbers = folders.bank.numbers()
        self._proposals = read_proposals(folders.proposals) if "verifier" in course.roles else []

    def __len__(self) -> int:
        return self._course.lessons * process_count()

    def __getitem__(self, index: int) -> Lesson:
        role = self._course.roles[index % len(self._course.roles)]
        rng = random.Random(f"{role} {index}")  # noqa: S311
        if role == "verifier" and rng.random() < _PROPOSED_SHARE:
            return self._verify(rng.choice(self._proposals), rng)
        footprint = self._bank.load(rng.choice(self._numbers))
        if role == "verifier":
            return self._verify_a_guess(footprint, rng)
        asked = some(localised(footprint, rng), ASKED, rng)
        if role == "planner" or not asked:
            return planner_lesson(self._pupil, footprint, rng)
        return grounder_lesson(self._pupil, footprint, asked)

    def _verify_a_guess(self, footprint: Footprint, rng: random.Random) -> Lesson:
        """Of far more clips than the grounder made proposals for."""
        asked = localised(footprint, rng)
        if not asked:
            return self._verify(rng.choice(self._proposals), rng)
        candidate = guessed_candidate(rng.choice(asked).spans[0], footprint.clip.duration, rng)
        chosen = judged(footprint, candidate, _JUDGED, rng)
        return verifier_lesson(self._pupil, footprint, candidate, chosen, rng)[0]

    def _verify(self, proposal: Proposal, rng: random.Random) -> Lesson:
        footprint = self._bank.load(proposal.number)
        true = proposal.question.spans[0]
        best = max(proposal.spans, key=true.iou)
        candidate = best if rng.random() < _BEST_SHARE else rng.choice(proposal.spans)
        asked = [proposal.question, *judged(footprint, candidate, _JUDGED, rng)]
        return verifier_lesson(self._pupil, footprint, candidate, asked, rng)[0]


def train_course(course: Course, folders: Folders, run: Path, out: Path) -> None:
    """Train a student on the base, and put it into the checkpoint `out` as each of the course's roles.

    Args:
        run: gets the training's state and metrics.
    """
    mind = begun_mind(folders)
    student = _student(course, mind, folders)
    lessons = RoleLessons(course, Pupil.load(folders.base), folders)
    watchers = [ShownProgress(), JsonLines(run / "metrics.jsonl")]
    StudentTrainer(student, lessons, course.settings, run, "cpu", watchers).teach()
    if rank():
        return
    begun = folders.root / "begun"
    with torch.no_grad():
        if course.full:
            save_base(student, mind.cast.backbone.model.model.visual, folders.base, begun, out, "float16")
        for role in dict.fromkeys(course.roles):
            save_role(student, role, mind.cast.settings(role), begun, out)


def begun_mind(folders: Folders) -> VideoMind:
    """The base, with the roles' prompts and none of their adapters; a checkpoint that loads at once."""
    begun = folders.root / "begun"
    if rank() == 0:
        begin_checkpoint(begun, folders.base, parse_role_book({"roles": ROLES}))
        shutil.copytree(folders.base, begun / BASE_FOLDER, dirs_exist_ok=True)
    if process_count() > 1:
        torch.distributed.barrier()
    return VideoMind.load(begun, folders.base, "cpu", "float32")


def _student(course: Course, mind: VideoMind, folders: Folders) -> Student:
    backbone, tokens = mind.cast.backbone, TokenIds.of(mind)
    # Who learns to ground among other things is a grounder, with a decoder.
    role = "grounder" if "grounder" in course.roles else course.roles[0]
    if course.full:
        student = full_student(backbone, role, tokens, DECODER_WIDTH)
    else:
        lora = LoraSettings(LORA_RANK, LORA_RANK, 0.0)
        embeddings: Embeddings = "none" if course.roles == ("planner",) else "new"
        student = lora_student(backbone, role, tokens, lora, embeddings, DECODER_WIDTH)
    if student.decoder is not None:
        student.decoder.load_state_dict(load_file(folders.base.parent / DECODER))
    return student
