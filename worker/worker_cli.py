"""The commands that run workers, and tell whether they and what they need are well."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from vm.cli import app
from vm.terminal import print_json, remark
from worker import health, logs, metrics, schema, show, supervisor
from worker import settings as setting
from worker.celery_app import ANALYSE, FETCH, INGEST, SWEEP
from worker.errors import BrokerUnusable
from worker.options import AsJson, Database, settings
from worker.settings import Settings
from worker.store import Store


@app.command()
def worker(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="No broker: work through the database in this process.")
    ] = False,
    drain: Annotated[bool, typer.Option("--drain", help="Embedded: end when nothing is left.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="QUEUE", help="ingest (accept, sweep, fetch) or analyse; repeat it. Else both."),
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


@app.command()
def beat(database: Database = None) -> None:
    """Send the sweeps and whatever else is due, until told to stop; any number of these may run.

    Every videomind worker does so as well, unless it is started with --no-beat.
    """
    with settings(database_url=database) as chosen:
        logs.set_up(chosen.log)
        if not chosen.broker_url:
            raise BrokerUnusable("no broker is named: set VIDEOMIND_BROKER_URL, or use worker --embedded")
        schema.check(chosen.database_url)
        with _beat() as command:
            supervisor.supervise({"beat": command})


@app.command("settings")
def show_settings(as_json: AsJson = False) -> None:
    """Show every setting: its value, where that comes from, and what it is for.

    Each is a variable of the environment, or of a file .env in the working directory. Secrets are masked.
    """
    for each in setting.told():
        if as_json:
            print_json(json.dumps(asdict(each), ensure_ascii=False))
        else:
            typer.echo("\n".join(show.setting_lines(each)))
    for name in setting.unknown():
        remark(f"{name} is no setting of this program: is it spelt right?")


@app.command("health")
def check_health(
    workers: Annotated[
        bool, typer.Option("--workers/--no-workers", help="Ask for workers too: not where none has to be.")
    ] = True,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether database, tables, broker and workers are there; for probes. Exit code 3 if not."""
    with settings(database_url=database) as chosen:
        found = health.look(chosen, workers)
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
    os.environ[f"{setting.PREFIX}DATABASE_URL"] = chosen.database_url  # also if the command line named it
    commands: dict[str, Sequence[str]] = {}
    if INGEST in queues:
        commands |= {**_serving(INGEST, 1), **_serving(SWEEP, 1), **_serving(FETCH, ingest_processes)}
    if ANALYSE in queues:
        commands |= _serving(ANALYSE, 1)
    with ExitStack() as stack:
        if beat:
            commands["beat"] = stack.enter_context(_beat())
        if chosen.metrics_port:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
            metrics.serve(chosen.metrics_port, stack.enter_context(Store(chosen.database_url)))
        supervisor.supervise(commands)


def _serving(queue: str, processes: int) -> dict[str, Sequence[str]]:
    """The command line of a Celery worker that so many processes work for, by its queue."""
    count, name = f"--concurrency={processes}", f"--hostname={queue}-{os.getpid()}@{os.uname().nodename}"
    return {queue: supervisor.celery("worker", f"--queues={queue}", count, name)}


@contextmanager
def _beat() -> Iterator[Sequence[str]]:
    """Its command line, and a folder for what it notes down."""
    with tempfile.TemporaryDirectory() as folder:
        yield supervisor.celery("beat", f"--schedule={folder}/beat")
