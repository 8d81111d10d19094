"""The commands around the queue: submit, look, cancel, try again, and the workers that do the work."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.live import Live

from vm.cli import app, asked_questions, parse_window
from vm.terminal import print_json, remark
from worker import contract, health, logs, metrics, schema, service, show, supervisor
from worker.batch import usable_requests
from worker.celery_app import ANALYSE, INGEST
from worker.jobs import NORMAL, STATES, AskSettings, Request, State, Submission
from worker.options import (
    WINDOW,
    AsJson,
    AskMode,
    Database,
    Options,
    QuestionFile,
    Questions,
    Window,
    opened_store,
    settings,
)
from worker.settings import Settings
from worker.store import Store

_UNFINISHED: tuple[State, ...] = ("queued", "running")


@app.command()
def submit(
    uris: Annotated[
        list[str], typer.Argument(metavar="VIDEO...", help="Paths, or file:, http(s):, s3: URIs.")
    ],
    question: Questions = None,
    question_file: QuestionFile = None,
    option: Options = None,
    mode: AskMode = "auto",
    window: Window = WINDOW,
    collection: Annotated[str | None, typer.Option(metavar="NAME", help="A site, a course.")] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="A camera, a hall.")] = None,
    recorded_at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the recording began, with its zone.")
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=9, help="The higher goes first.")] = NORMAL,
    callback_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Is told when all has ended.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Ask again what has been answered.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Queue videos and questions; a worker fetches, answers and stores.

    \b
    videomind submit yard.mp4 -q "When does the lorry leave?" --collection depot --source gate-2
    videomind worker --embedded --drain
    """
    questions = asked_questions(question or (), option or (), question_file)
    ask = AskSettings(parse_window(window))
    requests, errors = usable_requests(questions, lambda text, given: Request(text, given, mode, ask))
    if errors:
        raise errors[0]
    if source and not collection:
        raise typer.BadParameter("a source belongs to a --collection", param_hint="--source")
    try:
        began = contract.instant(recorded_at)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--recorded-at") from error
    with opened_store(database) as store:
        for uri in uris:
            found = Submission(
                uuid.uuid4().hex,
                uri if "://" in uri or uri.startswith("file:") else str(Path(uri).absolute()),
                requests,
                collection,
                source,
                began,
                priority,
                callback_url,
                force,
            )
            accepted = service.add(store, found)
            if as_json:
                print_json(json.dumps({"uri": found.uri, **asdict(accepted)}))
            else:
                typer.echo(f"submission {accepted.submission_id}: {found.uri}")


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

        if as_json:
            for row in look().rows():
                print_json(json.dumps(row, ensure_ascii=False, default=datetime.isoformat))
            return
        with Live(look().table(), console=Console(), auto_refresh=False) as live:
            while watch and not look().idle:
                time.sleep(1)
                live.update(look().table(), refresh=True)
            live.update(look().table(), refresh=True)


@app.command()
def cancel(
    submissions: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Submissions.")] = None,
    analysis: Annotated[list[int] | None, typer.Option(metavar="ID", help="An analysis; repeat it.")] = None,
    database: Database = None,
) -> None:
    """End what waits at once, and what runs at its next stage."""
    wanted = {"submissions": submissions, "analyses": analysis}
    given: dict[str, Any] = {name: ids for name, ids in wanted.items() if ids}
    if not given:
        raise typer.BadParameter("give submissions, or --analysis", param_hint="ID")
    with opened_store(database) as store:
        contract.parse_cancel({"version": contract.VERSION, **given})
        service.cancel(store, uuid.uuid4().hex, {"version": contract.VERSION, **given})


@app.command()
def retry(
    submissions: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Submissions.")] = None,
    analysis: Annotated[list[int] | None, typer.Option(metavar="ID", help="An analysis; repeat it.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that has failed.")] = False,
    database: Database = None,
) -> None:
    """Have what failed or was cancelled tried again from the start; a quarantine ends with it."""
    with opened_store(database) as store:
        chosen, analyses = list(submissions or ()), list(analysis or ())
        if failed:
            chosen += [row.submission_id for row in store.queues.arrivals(("failed",), most=100_000)]
            analyses += [row.analysis_id for row in store.queues.standings(("failed",), most=100_000)]
        elif chosen:
            analyses += [id for submission in chosen for id in store.submissions.analyses(submission)]
        if not (chosen or analyses or failed):
            raise typer.BadParameter("give submissions, --analysis or --failed", param_hint="ID")
        typer.echo(f"{service.retry(store, chosen, analyses)} queued again")


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


@app.command()
def worker(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="No broker: work through the database in this process.")
    ] = False,
    drain: Annotated[bool, typer.Option("--drain", help="Embedded: end when nothing is left.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="QUEUE", help="ingest or analyse; repeat it. Else both.")
    ] = None,
    ingest_processes: Annotated[int, typer.Option(min=1, help="That fetch and check.")] = 2,
    beat: Annotated[bool, typer.Option(help="Also send the sweeps; several may.")] = True,
    database: Database = None,
) -> None:
    """Fetch, answer and store what is submitted, until told to stop.

    SIGTERM or Ctrl-C lets what is being answered end. One analyse process per GPU: start more workers with
    CUDA_VISIBLE_DEVICES set for more.
    """
    if unknown := [queue for queue in only or () if queue not in (INGEST, ANALYSE)]:
        raise typer.BadParameter(f"no such queue: {unknown[0]}", param_hint="--only")
    with settings(database_url=database) as chosen:
        logs.set_up(chosen.log)
        if embedded or drain or not chosen.broker_url:
            _work_embedded(chosen, drain)
        else:
            schema.check(chosen.database_url)
            _work(chosen, only or (INGEST, ANALYSE), ingest_processes, beat)


@app.command("health")
def check_health(database: Database = None, as_json: AsJson = False) -> None:
    """Tell whether database, tables, broker and workers are there; for probes. Exit code 3 if not."""
    with settings(database_url=database) as chosen:
        found = health.look(chosen)
    for check in found:
        if as_json:
            print_json(json.dumps(asdict(check), ensure_ascii=False))
        else:
            typer.echo(f"{'ok ' if check.well else 'BAD'} {check.name}: {check.told}")
    health.raise_for(found)


def _work_embedded(chosen: Settings, drain: bool) -> None:
    from worker import runner

    if not chosen.broker_url:
        remark("no broker is named (VIDEOMIND_BROKER_URL): working through the database in this process")
    runner.prepare()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop_or_raise(stop))
    with Store(chosen.database_url) as store:
        if chosen.metrics_port:
            metrics.serve(chosen.metrics_port, store)
        runner.drain(stop, forever=not drain)


def _stop_or_raise(stop: threading.Event) -> None:
    """The first signal lets what is being answered end; the second hands it back."""
    if stop.is_set():
        raise KeyboardInterrupt
    stop.set()
    remark("ending after this video; once more to hand it back")


def _work(chosen: Settings, queues: Sequence[str], ingest_processes: int, beat: bool) -> None:
    host = f"@{os.uname().nodename}"
    commands: dict[str, Sequence[str]] = {}
    if INGEST in queues:
        count = f"--concurrency={ingest_processes}"
        name = f"--hostname=ingest-{os.getpid()}{host}"
        commands["ingest"] = supervisor.celery("worker", f"--queues={INGEST}", count, name)
    if ANALYSE in queues:
        name = f"--hostname=analyse-{os.getpid()}{host}"
        commands["analyse"] = supervisor.celery("worker", f"--queues={ANALYSE}", "--concurrency=1", name)
    with ExitStack() as stack:
        if beat:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            commands["beat"] = supervisor.celery("beat", f"--schedule={folder}/beat")
        if chosen.metrics_port:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
            metrics.serve(chosen.metrics_port, stack.enter_context(Store(chosen.database_url)))
        supervisor.supervise(commands)
