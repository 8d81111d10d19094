"""What the trained grounder proposes on clips it never saw: the verifier's data."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vm.config import ChainSettings
from vm.mind import VideoMind
from vm.model.timestamp_decoder import best_spans
from vm.moments import Span
from vm.scenes.wording import SceneQuestion
from vm.training.start import LoraSettings, lora_student
from vm.training.student import Student, TokenIds
from vm.training.tiny.bank import Bank
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_lessons import ASKED, grounder_lesson, localised, some

_CHAIN = ChainSettings()


@dataclass(frozen=True)
class Proposal:
    """A question about clip `number` of the bank, and the grounder's five best spans for it, seconds."""

    number: int
    question: SceneQuestion
    spans: tuple[Span, ...]


@torch.no_grad()
def propose(mind: VideoMind, pupil: Pupil, bank: Bank, numbers: Iterable[int], out: Path) -> None:
    """Run a checkpoint's grounder over clips of the bank; `out` appears when all is done."""
    tokens = TokenIds.of(mind)
    student = lora_student(mind.cast.backbone, "grounder", tokens, LoraSettings(dropout=0.0), "none").eval()
    partial = out.with_name(f"{out.name}.partial")
    with partial.open("w", encoding="utf-8") as lines:
        for number in numbers:
            for proposal in _proposals(student, pupil, bank, number):
                lines.write(json.dumps(_row(proposal)) + "\n")
    partial.replace(out)


def _proposals(student: Student, pupil: Pupil, bank: Bank, number: int) -> Iterator[Proposal]:
    footprint = bank.load(number)
    rng = random.Random(f"proposals {number}")  # noqa: S311
    asked = some(localised(footprint, rng), ASKED, rng)
    if not asked:
        return
    reading = student.read(grounder_lesson(pupil, footprint, asked))
    duration = footprint.clip.duration
    assert student.decoder is not None
    for question, state in zip(asked, reading.reg_states, strict=True):
        assert state is not None
        output = student.decoder(reading.frame_states, state[None])
        spans, _ = best_spans(output, _CHAIN.nms_iou, _CHAIN.candidates)
        found = [Span.clamped(a * duration, b * duration, duration) for a, b in spans.tolist()]
        yield Proposal(number, question, tuple(found))


def _row(proposal: Proposal) -> dict[str, Any]:
    question = vars(proposal.question) | {"spans": _pairs(proposal.question.spans)}
    return {"number": proposal.number, "question": question, "spans": _pairs(proposal.spans)}


def _pairs(spans: Sequence[Span]) -> list[tuple[float, float]]:
    return [(span.start, span.end) for span in spans]


def read_proposals(path: Path) -> list[Proposal]:
    """What `propose` wrote."""
    return [_proposal(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _proposal(row: dict[str, Any]) -> Proposal:
    asked = row["question"]
    question = SceneQuestion(
        **{
            **asked,
            "options": tuple(asked["options"]),
            "spans": tuple(Span(*span) for span in asked["spans"]),
        }
    )
    return Proposal(row["number"], question, tuple(Span(*span) for span in row["spans"]))
