"""The command that does everything at once, in this process: ask, store, show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vm.bundled import choose_checkpoint
from vm.cli import app, asked_questions, check_contact_sheet, parse_window
from vm.errors import QuestionError
from vm.questions import Question
from vm.terminal import remark
from worker.batch import Batch, MakeRequest, annotated_batches, usable_requests
from worker.inquiry import Output, ask_all, told
from worker.jobs import AskSettings, Request
from worker.options import (
    WINDOW,
    Annotations,
    AsJson,
    AskMode,
    Database,
    Options,
    QuestionFile,
    Questions,
    Window,
    settings,
)


@app.command()
def run(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO...", help="Local video files.")
    ] = None,
    question: Questions = None,
    question_file: QuestionFile = None,
    annotations: Annotations = None,
    option: Options = None,
    mode: AskMode = "auto",
    window: Window = WINDOW,
    min_answer_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", min=0, help="The least the answerer is shown; else the checkpoint's."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Instead of VIDEOMIND_CHECKPOINT; else the bundled weights."),
    ] = None,
    base: Annotated[str | None, typer.Option(metavar="DIR", help="Instead of VIDEOMIND_BASE.")] = None,
    device: Annotated[str | None, typer.Option(help="Instead of VIDEOMIND_DEVICE.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Instead of VIDEOMIND_DTYPE.")] = None,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", dir_okay=False, help="Frames of the best moments, to look at."),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Ask questions of videos, keep what is found in the database, and show it.

    \b
    videomind run yard.mp4 gate.mp4 -q "When does the lorry leave?" -q "Who opens the gate?"
    videomind run yard.mp4 --question-file questions.txt --contact-sheet moments.png
    videomind run --annotations samples/truth.jsonl

    Question files are those of videomind ask, annotations those of videomind evaluate.
    With several questions the contact sheets are numbered: OUT-1.png, OUT-2.png.
    What has been answered before is shown again without asking the model.
    The bundled checkpoint knows only a synthetic world; videomind pull gets real weights.
    """
    check_contact_sheet(contact_sheet)
    how = AskSettings(parse_window(window), min_answer_seconds)
    request = partial(Request.given, mode=mode, settings=how)
    if annotations is None:
        questions = asked_questions(question or (), option or (), question_file)
        batches, errors = _batches(videos or (), questions, request)
    elif videos or question or option or question_file:
        raise typer.BadParameter("they bring their own videos and questions", param_hint="--annotations")
    else:
        batches, errors = annotated_batches(annotations, request), []
    given = {"checkpoint": checkpoint, "base": base, "device": device, "dtype": dtype}
    with settings(database_url=database, **given) as chosen:
        codes = [told(error) for error in errors]
        if batches:
            choose_checkpoint(chosen.checkpoint, chosen.base, remark)
            codes += ask_all(batches, Output(as_json, contact_sheet))
    raise typer.Exit(next((code for code in codes if code), 0))


def _batches(
    videos: Sequence[Path], questions: Sequence[Question | QuestionError], request: MakeRequest
) -> tuple[list[Batch], list[QuestionError]]:
    """Every usable question for every video, and what is wrong with the others."""
    if not videos:
        raise typer.BadParameter("give a video, or --annotations", param_hint="VIDEO")
    requests, errors = usable_requests(questions, request)
    return [Batch(video, requests) for video in videos if requests], errors
