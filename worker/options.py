"""What several commands take: the database, JSON, and the settings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import typer

from worker import schema
from worker.settings import Settings, current, using
from worker.store import Store

Database = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="Instead of VIDEOMIND_DATABASE_URL.")
]
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
