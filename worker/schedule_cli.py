"""The commands that have archives asked anew by themselves."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console

from vm.cli import app
from vm.render import plain
from vm.terminal import print_json
from worker import reindex_show
from worker.options import AsJson, CollectionName, Database, SourceName, opened_store
from worker.reindex_cli import (
    Budget,
    Failed,
    Hours,
    LowScore,
    Never,
    OlderThan,
    Priority,
    Questions,
    Since,
    Stale,
    TimeZone,
    Until,
    reasons_of,
)
from worker.reindexing import BACKGROUND, CatchUp, Limits, Rule
from worker.scheduling import Schedule

schedule = typer.Typer(help="Have archives asked anew by themselves.", no_args_is_help=True)
app.add_typer(schedule, name="schedule")

Name = Annotated[str, typer.Argument(metavar="NAME")]


@schedule.command("add")
def add_schedule(
    name: Name,
    cron: Annotated[str, typer.Option(metavar="EXPRESSION", help="Five fields: '0 22 * * 1-5'.")],
    stale: Stale = False,
    failed: Failed = False,
    never: Never = False,
    older_than: OlderThan = None,
    low_score: LowScore = None,
    collection: CollectionName = None,
    source: SourceName = None,
    since: Since = None,
    until: Until = None,
    question: Questions = None,
    priority: Priority = BACKGROUND,
    budget_hours: Budget = None,
    hours: Hours = None,
    time_zone: TimeZone = "UTC",
    catch_up: Annotated[
        CatchUp, typer.Option(help="What was missed is made up for once, or skipped.")
    ] = "once",
    database: Database = None,
) -> None:
    """Keep a schedule, or change the one of this name. A beat has to run: `videomind worker` has one.

    \b
    videomind schedule add nightly --cron "0 22 * * *" --time-zone Europe/Berlin \\
        --stale --failed --hours 22:00-06:00 --budget-hours 6
    """
    reasons = reasons_of(stale, failed, never, older_than, low_score)
    bounds = (older_than, low_score, collection, source, since, until, tuple(question or ()))
    limits = Limits(priority, budget_hours, hours, time_zone)
    wanted = Schedule(name, cron, Rule.given(reasons, *bounds), limits, time_zone, catch_up)
    with opened_store(database) as store:
        store.schedules.add(wanted)
    typer.echo(f"{plain(name)}: next at {wanted.next_after(datetime.now().astimezone()).isoformat()}")


@schedule.command("list")
def list_schedules(database: Database = None, as_json: AsJson = False) -> None:
    """Show the schedules, and when each is next."""
    with opened_store(database) as store:
        found = store.schedules.all()
    if as_json:
        for each in found:
            print_json(json.dumps(reindex_show.schedule_values(each), default=datetime.isoformat))
    else:
        Console().print(reindex_show.schedule_table(found))


@schedule.command()
def enable(name: Name, database: Database = None) -> None:
    """Switch a schedule on; what passed meanwhile is not made up for."""
    with opened_store(database) as store:
        store.schedules.enable(name, True)


@schedule.command()
def disable(name: Name, database: Database = None) -> None:
    """Switch a schedule off. A run of it that has begun goes on."""
    with opened_store(database) as store:
        store.schedules.enable(name, False)


@schedule.command()
def remove(name: Name, database: Database = None) -> None:
    """Forget a schedule; its runs stay."""
    with opened_store(database) as store:
        store.schedules.remove(name)
