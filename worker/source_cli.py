"""The commands around sources: how a camera's or a hall's file names tell when its recordings began."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vm.cli import app
from vm.errors import QuestionError
from vm.render import plain
from vm.terminal import print_json
from worker.jobs import check_names
from worker.options import AsJson, Database, opened_store
from worker.recording import recorded_at

source = typer.Typer(help="Where videos come from: cameras, halls.", no_args_is_help=True)
app.add_typer(source, name="source")


@source.command("set")
def set_source(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="A site, a course.")],
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="A camera, a hall.")],
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="How its files' names tell when they were recorded: %Y%m%d_%H%M."
        ),
    ] = None,
    time_zone: Annotated[
        str | None, typer.Option("--time-zone", metavar="ZONE", help="Of its clock: Europe/Berlin. Else UTC.")
    ] = None,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="A file's name, to try the pattern on first.")
    ] = None,
    database: Database = None,
) -> None:
    """Say how a source names its files, for what comes from then on.

    \b
    videomind source set depot gate-2 --pattern "gate_%Y%m%d_%H%M%S" --time-zone Europe/Berlin \\
        --example gate_20260301_080000.mp4

    A time said on submission goes before the one in the name, and that before the container's own.
    Directives are %Y %y %m %d %H %I %p %M %S %f %z, and %% for a percent sign.
    Without a pattern, names tell nothing any more.
    """
    check_names(collection, name)
    began = recorded_at(None, example or "", pattern, time_zone, None)  # refuses what cannot be used
    if example is not None and began is None:
        raise QuestionError(
            f"no time was found in {example!a}: compare it with the pattern. Nothing was changed"
        )
    with opened_store(database) as store:
        store.sources.describe(collection, name, pattern, time_zone)
    typer.echo(f"{plain(collection)}/{plain(name)}: {plain(pattern or 'no pattern')}, {time_zone or 'UTC'}")
    if example is not None and began is not None:
        typer.echo(f"{plain(example)} began at {began[0].isoformat()}")


@source.command("list")
def list_sources(database: Database = None, as_json: AsJson = False) -> None:
    """Show the sources, how many videos have come from each, and how it names its files."""
    with opened_store(database) as store:
        found = store.sources.all()
    if as_json:
        for each in found:
            print_json(json.dumps(asdict(each), ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("collection", "source", "videos", "pattern", "time zone"):
        table.add_column(column, overflow="fold")
    for each in found:
        told = (each.recorded_at_pattern or "", each.time_zone or "")
        table.add_row(plain(each.collection), plain(each.source), str(each.videos), *map(plain, told))
    Console().print(table)
