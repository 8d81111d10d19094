"""The command `videomind`: the library's commands, and those that need the database.

Exit codes: 0 a result, 1 an unforeseen failure, 2 wrong usage, 3 a bad video, database or other
input, 4 a bad checkpoint or one that cannot be fetched, 130 interrupted. With several videos or
questions the first failure decides.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vm.bundled import choose_checkpoint
from vm.cli import app, asked_questions, check_contact_sheet, parse_window
from vm.errors import QuestionError
from vm.questions import Question
from vm.terminal import PROGRAM, print_json, remark, run_app
from worker import grants, queue_cli, reader, schema, show
from worker.batch import Batch, MakeRequest, annotated_batches, usable_requests
from worker.database import sqlite_file
from worker.inquiry import Output, ask_all, told
from worker.jobs import AskSettings, Request
from worker.options import (
    WINDOW,
    AsJson,
    AskMode,
    Database,
    Options,
    QuestionFile,
    Questions,
    Window,
    settings,
)

__all__ = ["main", "queue_cli"]

INTERRUPTED = 130

db = typer.Typer(help="Set up and check the database.", no_args_is_help=True)
app.add_typer(db, name="db")


@app.command()
def run(
    videos: Annotated[
        list[Path] | None, typer.Argument(metavar="VIDEO...", help="Local video files.")
    ] = None,
    question: Questions = None,
    question_file: QuestionFile = None,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Videos, questions and what is true, shown beside what is found."),
    ] = None,
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
    request = partial(Request, mode=mode, settings=AskSettings(parse_window(window), min_answer_seconds))
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


@db.command()
def upgrade(database: Database = None) -> None:
    """Bring the tables to this program's version."""
    with settings(database_url=database) as chosen:
        schema.upgrade(chosen.database_url)
        typer.echo(f"tables are of version {schema.check(chosen.database_url)}")


@db.command()
def check(database: Database = None) -> None:
    """Tell whether the tables are of this program's version."""
    with settings(database_url=database) as chosen:
        typer.echo(f"tables are of version {schema.check(chosen.database_url)}")


@db.command("grant")
def grant_reading(
    role: Annotated[str, typer.Argument(help="Of the analysts. Made if it is not there.")],
    apply: Annotated[bool, typer.Option("--apply", help="Run the statements, not only print them.")] = False,
    login: Annotated[bool, typer.Option("--login", help="A role that logs in by itself.")] = False,
    database: Database = None,
) -> None:
    """Print, or run, what lets a PostgreSQL role read all tables and views and change nothing."""
    with settings(database_url=database) as chosen:
        for statement in grants.apply(chosen.database_url, role, login=login, dry=not apply):
            typer.echo(f"{statement};")


@app.command()
def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Show what one SELECT finds in an SQLite database; nothing can be changed with it.

    \b
    videomind sql "SELECT video, start_seconds, end_seconds, question FROM moment_view WHERE rank = 1"
    """
    with settings(database_url=database) as chosen:
        rows = reader.read(sqlite_file(chosen.database_url), statement)
    if as_json:
        for values in rows.values:
            print_json(
                json.dumps(dict(zip(rows.names, values, strict=True)), ensure_ascii=False, default=str)
            )
    else:
        for line in show.table_lines(rows):
            typer.echo(line)


def main() -> NoReturn:
    """The entry point: every foreseen end is at most one line on stderr and an exit code."""
    # An ordinary `kill` unwinds as Ctrl-C does, so that claimed analyses are handed back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Failures are shown from their rows; without a handler Python would print the log beside them.
    logging.getLogger("worker").addHandler(logging.NullHandler())
    try:
        run_app(app)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print(f"{PROGRAM}: interrupted", file=sys.stderr)
        raise


def _batches(
    videos: Sequence[Path], questions: Sequence[Question | QuestionError], request: MakeRequest
) -> tuple[list[Batch], list[QuestionError]]:
    """Every usable question for every video, and what is wrong with the others."""
    if not videos:
        raise typer.BadParameter("give a video, or --annotations", param_hint="VIDEO")
    requests, errors = usable_requests(questions, request)
    return [Batch(video, requests) for video in videos if requests], errors
