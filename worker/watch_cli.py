"""The command that watches a folder, and submits what is finished in it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vm.cli import app, asked_questions, parse_window
from vm.errors import VideoMindError
from vm.terminal import remark
from worker import contract, service
from worker.batch import usable_requests
from worker.jobs import NORMAL, AskSettings, Request
from worker.masking import masked
from worker.options import (
    WINDOW,
    AskMode,
    CallbackUrl,
    CollectionName,
    Database,
    Options,
    Priority,
    QuestionFile,
    Questions,
    SourceName,
    Window,
    check_place,
    opened_store,
)
from worker.settings import current
from worker.sources.directory import Sighting, finished_files
from worker.sources.rules import SourceRules
from worker.store import Store

Seen = Mapping[Path, Sighting]
EVERY = 30.0


@app.command()
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where cameras or people put finished videos.")
    ],
    question: Questions = None,
    question_file: QuestionFile = None,
    option: Options = None,
    mode: AskMode = "auto",
    window: Window = WINDOW,
    collection: CollectionName = None,
    source: SourceName = None,
    pattern: Annotated[str, typer.Option(metavar="GLOB", help="Of the files' names, as *.mp4.")] = "*",
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders within as well.")] = False,
    every: Annotated[float, typer.Option(metavar="S", min=1, help="Seconds between two looks.")] = EVERY,
    priority: Priority = NORMAL,
    callback_url: CallbackUrl = None,
    database: Database = None,
) -> None:
    """Submit every file of a folder once it is finished, each once, until Ctrl-C or SIGTERM.

    \b
    videomind watch /videos/gate-2 -q "When does a lorry leave?" --collection depot --source gate-2 \\
        --pattern "*.mp4" --recursive

    A file is finished when it has looked the same for some seconds. Workers answer what is submitted.
    """
    check_place(collection, source)
    ask = AskSettings(parse_window(window))
    questions = asked_questions(question or (), option or (), question_file)
    requests, errors = usable_requests(questions, lambda text, given: Request(text, given, mode, ask))
    if errors:
        raise errors[0]
    given = {"collection": collection, "source": source, "callback_url": callback_url}
    arguments = {
        "version": contract.VERSION,
        "path": str(folder.absolute()),
        "pattern": pattern,
        "recursive": recursive,
        "priority": priority,
        "questions": list(map(_asked, requests)),
        **{name: value for name, value in given.items() if value is not None},
    }
    with opened_store(database) as store:
        try:
            _watch(store, arguments, every)
        except KeyboardInterrupt:
            remark("no longer watching")


def _asked(request: Request) -> dict[str, Any]:
    """A question as producers write it."""
    options = {"options": list(request.options)} if request.options else {}
    return {"question": request.question, "mode": request.mode, "window": request.settings.window, **options}


def _watch(store: Store, arguments: Mapping[str, Any], every: float) -> None:
    """Raises VideoMindError: what is wrong from the beginning; what goes wrong later may pass."""
    folder = contract.parse_ingest_directory("watch", arguments)
    seen = _look(folder, {})[1]
    known = max((row.submission_id for row in store.queues.arrivals(most=1)), default=0)
    time.sleep(min(every, service.SETTLE_SECONDS))
    while True:
        try:
            finished, now_seen = _look(folder, seen)
            if finished:
                known = _submit(store, arguments, known)
            seen = now_seen
        except VideoMindError as error:
            remark(f"{error}: tried again in {every:g} s")
        time.sleep(every)


def _look(folder: contract.Folder, seen: Seen) -> tuple[bool, Seen]:
    """Whether something is finished that was not before."""
    rules = SourceRules(roots=current().media_roots)
    path, settle = Path(folder.path), service.SETTLE_SECONDS
    scan = finished_files(path, folder.pattern, rules, settle, seen, folder.recursive, service.MOST_FILES)
    return bool(scan.finished), scan.seen


def _submit(store: Store, arguments: Mapping[str, Any], known: int) -> int:
    """Tells of the new submissions, and gives the last one's number; what was submitted before stays."""
    accepted = service.ingest_directory(store, current(), uuid.uuid4().hex, arguments)
    for each in accepted:
        if each.submission_id > known:
            (row,) = store.queues.arrivals(submission_ids=[each.submission_id])
            typer.echo(f"submission {row.submission_id}: {masked(row.uri)}")
    return max([known, *(each.submission_id for each in accepted)])
