"""What several commands take: the database, JSON, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vm.result import Mode
from worker import schema
from worker.jobs import AskSettings
from worker.settings import Settings, current, using
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


@contextmanager
def settings(**given: str | None) -> Iterator[Settings]:
    """The environment's settings, with what the command line says in place of them."""
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = replace(current(), **named)
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
