"""What `videomind run` asks: which questions of which video, and what would be right where that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm.cli import asked_questions
from vm.errors import QuestionError
from vm.evaluation.annotations import read_annotations
from vm.evaluation.samples import Sample
from vm.questions import Question
from worker.jobs import Request

MakeRequest = Callable[[str, tuple[str, ...]], Request]
"""From a question and its options; raises QuestionError."""


@dataclass(frozen=True)
class Batch:
    """The questions put to one video, each once, and the truth of those that have one."""

    video: Path
    requests: tuple[Request, ...]
    truths: Mapping[Request, Sample] = field(default_factory=dict)


def usable_requests(
    questions: Sequence[Question | QuestionError], request: MakeRequest
) -> tuple[tuple[Request, ...], list[QuestionError]]:
    """The questions that can be asked, each once, and what is wrong with the others."""
    usable: list[Request] = []
    errors: list[QuestionError] = []
    for question in questions:
        try:
            if isinstance(question, QuestionError):
                raise question
            usable.append(request(question.text, question.options))
        except QuestionError as error:
            errors.append(error)
    return tuple(dict.fromkeys(usable)), errors


def requests_besides(
    questions: Sequence[str] | None, options: Sequence[str] | None, file: Path | None, request: MakeRequest
) -> tuple[Request, ...]:
    """What a command asks besides the standing questions, which may be nothing.

    Raises:
        QuestionError: a question cannot be asked.
    """
    if not (questions or options or file):
        return ()
    requests, errors = usable_requests(asked_questions(questions or (), options or (), file), request)
    if errors:
        raise errors[0]
    return requests


def annotated_batches(path: Path, request: MakeRequest) -> list[Batch]:
    """The questions of an annotation file (JSON lines, see `vm.evaluation.annotations`), video by video.

    Raises:
        EvaluationError: the file cannot be read, or a line makes no sense.
        QuestionError: a question cannot be asked.
    """
    by_video: dict[str, dict[Request, Sample]] = {}
    for sample in read_annotations(path, "jsonl", path.parent):
        truths = by_video.setdefault(sample.video, {})
        truths.setdefault(request(sample.question, sample.options), sample)
    return [Batch(Path(video), tuple(truths), truths) for video, truths in by_video.items()]
