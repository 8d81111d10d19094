"""The command that watches a folder, and submits what is finished in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vm.cli import app, parse_window
from vm.errors import VideoMindError
from vm.terminal import remark
from worker import contract, service, show
from worker.batch import requests_besides
from worker.jobs import NORMAL, AskSettings, Request, Submission
from worker.options import (
    WINDOW,
    AsJson,
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
    remark_on_silence,
)
from worker.settings import current
from worker.store import Store

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
    as_json: AsJson = False,
) -> None:
    """Submit every file of a folder once it is finished, each once, until Ctrl-C or SIGTERM.

    \b
    videomind watch /videos/gate-2 -q "When does a lorry leave?" --collection depot --source gate-2 \\
        --pattern "*.mp4" --recursive

    A file is finished when it has looked the same for some seconds. Workers answer what is submitted.
    Without a question, only the standing questions on its collection and source are asked.
    """
    check_place(collection, source)
    make = partial(Request.given, mode=mode, settings=AskSettings(parse_window(window)))
    requests = requests_besides(question, option, question_file, make)
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
        if not requests:
            remark_on_silence(store, collection, source)
        try:
            _watch(store, arguments, every, as_json)
        except KeyboardInterrupt:
            remark("no longer watching")


def _asked(request: Request) -> dict[str, Any]:
    """A question as producers write it."""
    options = {"options": list(request.options)} if request.options else {}
    return {"question": request.question, "mode": request.mode, "window": request.settings.window, **options}


def _watch(store: Store, arguments: Mapping[str, Any], every: float, as_json: bool) -> None:
    """Raises VideoMindError: what is wrong from the beginning; what goes wrong later may pass."""
    folder = contract.parse_ingest_directory("watch", arguments)
    seen = service.look(folder, current(), {}).seen
    time.sleep(min(every, service.SETTLE_SECONDS))
    while True:
        try:
            scan = service.look(folder, current(), seen)
            for submission in _new(store, service.by_key(folder, scan.finished, arguments)):
                show.print_accepted(submission.uri, service.add(store, submission), as_json)
            seen = scan.seen
        except VideoMindError as error:
            remark(f"{error}: tried again in {every:g} s")
        time.sleep(every)


def _new(store: Store, submissions: Mapping[str, Submission]) -> list[Submission]:
    """Those that were not handed in before, perhaps by a watch that has ended."""
    known = store.submissions.known(list(submissions))
    return [submission for key, submission in submissions.items() if key not in known]
