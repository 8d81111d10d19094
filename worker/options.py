"""What several commands take: the database, JSON, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vm.result import Mode
from vm.terminal import remark
from worker import schema
from worker.jobs import AskSettings, check_names
from worker.settings import Settings, current, using
from worker.show import Form
from worker.store import Store

Database = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Instead of VIDEOMIND_DATABASE_URL.")
]
Questions = Annotated[
    list[str] | None, typer.Option("--question", "-q", metavar="TEXT", help="Repeat it to ask several.")
]
QuestionFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="One question per line, as text or as JSON; - is standard input."),
]
Options = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="A possible answer; repeat it, at least twice.")
]
AskMode = Annotated[Mode, typer.Option(help="Other than auto: a fixed chain, without the planner.")]
Window = Annotated[
    str, typer.Option(metavar="S", help="Seconds of a long video grounded in one pass, or none.")
]
WINDOW = f"{AskSettings().window:g}"
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text, one object per line.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV instead of text.")]
Annotations = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Videos, their questions, and what is true: see videomind evaluate."),
]
CollectionName = Annotated[str | None, typer.Option("--collection", metavar="NAME", help="A site, a course.")]
SourceName = Annotated[str | None, typer.Option("--source", metavar="NAME", help="A camera, a hall.")]
Priority = Annotated[int, typer.Option(min=0, max=9, help="The higher goes first.")]
CallbackUrl = Annotated[str | None, typer.Option(metavar="URL", help="Is told when all has ended.")]


def check_place(collection: str | None, source: str | None) -> None:
    """Raises: typer.BadParameter for a source that belongs nowhere, QuestionError for what is no name."""
    if source and not collection:
        raise typer.BadParameter("a source belongs to a --collection", param_hint="--source")
    check_names(collection or None, source or None)


def remark_on_silence(store: Store, collection: str | None, source: str | None) -> None:
    """Who asks nothing is told so, unless a standing question is on for what comes from there."""
    if not store.standing.would_ask(collection, source):
        remark("nothing will be asked: give a question, or name where a standing question is on")


def form(as_json: bool, as_csv: bool) -> Form:
    """How rows are to be shown. Raises: typer.BadParameter."""
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv", param_hint="--csv")
    return "json" if as_json else "csv" if as_csv else "table"


@contextmanager
def settings(**given: str | None) -> Iterator[Settings]:
    """The environment's settings, with what the command line says in place of them."""
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = current().changed(**named)
    with using(chosen):
        yield chosen


@contextmanager
def opened_store(database: str | None) -> Iterator[Store]:
    """The database the command line names, set up if it is a new embedded one.

    Raises:
        DatabaseUnusable: or StaleSchema, which names the command to run.
    """
    with settings(database_url=database) as chosen:
        schema.prepare(chosen.database_url)
        with Store(chosen.database_url) as store:
            yield store
