"""The commands around the queue: submit, look, cancel, try again."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from vm.cli import app, parse_window
from vm.subtitles import read_subtitles
from vm.terminal import print_json
from worker import contract, service, show
from worker.batch import annotated_batches, requests_besides
from worker.jobs import NORMAL, STATES, AskSettings, Request, State, Submission
from worker.options import (
    WINDOW,
    Annotations,
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

_UNFINISHED: tuple[State, ...] = ("queued", "running")


@app.command()
def submit(
    uris: Annotated[
        list[str] | None, typer.Argument(metavar="VIDEO...", help="Paths, or file:, http(s):, s3: URIs.")
    ] = None,
    question: Questions = None,
    question_file: QuestionFile = None,
    annotations: Annotations = None,
    option: Options = None,
    mode: AskMode = "auto",
    window: Window = WINDOW,
    subtitles: Annotated[
        Path | None, typer.Option(metavar="FILE", help="SRT or WebVTT of the one video, for the answerer.")
    ] = None,
    collection: CollectionName = None,
    source: SourceName = None,
    recorded_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the recording began, with its zone.")
    ] = None,
    priority: Priority = NORMAL,
    callback_url: CallbackUrl = None,
    force: Annotated[bool, typer.Option("--force", help="Ask again what has been answered.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Queue videos and questions; a worker fetches, answers and stores.

    \b
    videomind submit yard.mp4 -q "When does the lorry leave?" --collection depot --source gate-2
    videomind submit lecture.mp4 -q "What is a monad?" --subtitles lecture.srt
    videomind worker --embedded --drain

    Without a question, only the standing questions on its collection and source are asked.
    """
    check_place(collection, source)
    if subtitles and len(uris or ()) != 1:
        raise typer.BadParameter("they belong to one video: submit it alone", param_hint="--subtitles")
    cues = read_subtitles(subtitles) if subtitles else ()
    make = partial(Request.given, mode=mode, settings=AskSettings(parse_window(window)), subtitles=cues)
    if annotations is None:
        if not uris:
            raise typer.BadParameter("give a video, or --annotations", param_hint="VIDEO")
        requests = requests_besides(question, option, question_file, make)
        asked = [(_uri(uri), requests) for uri in uris]
    elif uris or question or option or question_file:
        raise typer.BadParameter("they bring their own videos and questions", param_hint="--annotations")
    else:
        asked = [(_uri(str(each.video)), each.requests) for each in annotated_batches(annotations, make)]
    began = _began(recorded_at)
    with opened_store(database) as store:
        if not all(requests for _, requests in asked):
            remark_on_silence(store, collection, source)
        for uri, requests in asked:
            key = uuid.uuid4().hex
            found = Submission(key, uri, requests, collection, source, began, priority, callback_url, force)
            show.print_accepted(uri, service.add(store, found), as_json)


@app.command()
def status(
    submissions: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Of these only.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help=f"{', '.join(STATES)}; repeat it. Else what waits, runs, failed."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until nothing waits or runs.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Tell what waits, how far what runs is, and what has failed."""
    if unknown := [name for name in state or () if name not in STATES]:
        raise typer.BadParameter(f"no such state: {unknown[0]}", param_hint="--state")
    chosen = cast(Sequence[State], state or ())
    states = chosen or (() if submissions else (*_UNFINISHED, "failed"))
    with opened_store(database) as store:

        def look() -> show.Board:
            return show.Board(
                store.queues.depths(),
                store.queues.arrivals(states, submissions or ()),
                store.queues.standings(states, submissions or ()),
            )

        store.queues.check_known(submissions or (), ())
        if as_json:
            while True:
                for row in (board := look()).rows():
                    print_json(json.dumps(row, ensure_ascii=False, default=datetime.isoformat))
                if not watch or board.idle:
                    return
                time.sleep(1)
        show.keep_showing(lambda: look().shown(), lambda: watch and not look().idle)


@app.command()
def cancel(
    submissions: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Submissions.")] = None,
    analysis: Annotated[list[int] | None, typer.Option(metavar="ID", help="An analysis; repeat it.")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """End what waits at once, and what runs between two of its stages or windows."""
    wanted = {"submissions": submissions, "analyses": analysis}
    given: dict[str, Any] = {name: ids for name, ids in wanted.items() if ids}
    if not given:
        raise typer.BadParameter("give submissions, or --analysis", param_hint="ID")
    with opened_store(database) as store:
        contract.parse_cancel({"version": contract.VERSION, **given})
        store.queues.check_known(submissions or (), analysis or ())
        service.cancel(store, uuid.uuid4().hex, {"version": contract.VERSION, **given})
        if as_json:
            print_json(json.dumps(given))
        else:
            typer.echo("What waited has ended, what runs ends between two stages; `videomind status` tells.")


@app.command()
def retry(
    submissions: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Submissions.")] = None,
    analysis: Annotated[list[int] | None, typer.Option(metavar="ID", help="An analysis; repeat it.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that has failed.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Have what failed or was cancelled tried again from the start; a quarantine ends with it."""
    with opened_store(database) as store:
        chosen, analyses = list(submissions or ()), list(analysis or ())
        store.queues.check_known(chosen, analyses)
        if failed:
            chosen += [row.submission_id for row in store.queues.arrivals(("failed",), most=100_000)]
            analyses += [row.analysis_id for row in store.queues.standings(("failed",), most=100_000)]
        elif chosen:
            analyses += [id for submission in chosen for id in store.submissions.analyses(submission)]
        if not (chosen or analyses or failed):
            raise typer.BadParameter("give submissions, --analysis or --failed", param_hint="ID")
        again = service.retry(store, chosen, analyses)
        if as_json:
            print_json(json.dumps({"queued_again": again}))
        else:
            typer.echo(
                f"{again} queued again" + ("" if again else ": nothing of it has failed or was cancelled")
            )


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="All must occur.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Analyses at most.")] = 20,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Find analyses by the words of question, query and answer."""
    with opened_store(database) as store:
        for outcome in store.analyses.search(" ".join(words), limit):
            if as_json:
                found = {"analysis_id": outcome.analysis_id, **outcome.to_dict()}
                print_json(json.dumps(found, ensure_ascii=False))
            else:
                typer.echo(show.found_line(outcome))


def _uri(given: str) -> str:
    """A path as a URI, whatever bytes its name is made of."""
    return given if "://" in given or given.startswith("file:") else Path(given).absolute().as_uri()


def _began(recorded_at: str | None) -> datetime | None:
    try:
        return contract.instant(recorded_at)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--recorded-at") from error
