"""The commands around generations: plan a re-indexing, run it, compare, take it back, prune."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from vm.cli import app, check_contact_sheet
from vm.terminal import print_json, progress, remark
from worker import broker, engine, reindex_show, show
from worker.celery_app import ANALYSE
from worker.options import AsJson, CollectionName, Database, SourceName, opened_store
from worker.reindexing import BACKGROUND, MOST_BACKGROUND, REASONS, Limits, Reason, Rule
from worker.settings import current
from worker.store import Store
from worker.store.pruning import Retention

reindex = typer.Typer(help="Ask archives anew, and compare before and after.", no_args_is_help=True)
app.add_typer(reindex, name="reindex")

_LARGEST_ID = 2**63 - 1
RunId = Annotated[
    int, typer.Argument(metavar="RUN", min=1, max=_LARGEST_ID, help="As `videomind reindex status` has it.")
]
Stale = Annotated[bool, typer.Option("--stale", help="Answered by another checkpoint than the present one.")]
Failed = Annotated[bool, typer.Option("--failed", help="Failed, and never answered.")]
Never = Annotated[
    bool, typer.Option("--never", help="Never asked anything; give --question, or have standing questions.")
]
OlderThan = Annotated[float | None, typer.Option(metavar="DAYS", help="Answered longer ago.")]
LowScore = Annotated[float | None, typer.Option(metavar="S", help="The best moment's score is lower.")]
Since = Annotated[str | None, typer.Option(metavar="INSTANT", help="Recorded at or after, with its zone.")]
Until = Annotated[str | None, typer.Option(metavar="INSTANT", help="Recorded before.")]
Questions = Annotated[list[str] | None, typer.Option("--question", "-q", metavar="TEXT", help="For --never.")]
Priority = Annotated[int, typer.Option(min=0, max=MOST_BACKGROUND, help="Live work has 5.")]
Budget = Annotated[
    float | None, typer.Option(metavar="H", help="Hours of compute at most, each night of --hours.")
]
Hours = Annotated[str | None, typer.Option(metavar="HOURS", help="Only at that time of day: 22:00-06:00.")]
TimeZone = Annotated[
    str, typer.Option("--time-zone", metavar="ZONE", help="Of hours and cron, as Europe/Berlin.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only tell.")]


@reindex.command()
def plan(
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
    dry_run: DryRun = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Choose what to ask anew, and tell how much that is. Without a reason: --stale.

    \b
    videomind reindex plan --stale --collection depot --dry-run
    videomind reindex plan --low-score 0.45 --since 2026-01-01T00:00Z --hours 22:00-06:00 --budget-hours 6
    """
    reasons = reasons_of(stale, failed, never, older_than, low_score)
    bounds = (older_than, low_score, collection, source, since, until, tuple(question or ()))
    rule = Rule.given(reasons, *bounds)
    limits = Limits(priority, budget_hours, hours, time_zone)
    with opened_store(database) as store:
        if dry_run:
            run_id, found = None, store.reindex.estimate(rule, engine.fingerprint())
        else:
            run_id, found = store.reindex.plan(rule, limits, engine.fingerprint())
    if as_json:
        print_json(json.dumps({"run": run_id, **asdict(found)}))
        return
    for line in reindex_show.selection_lines(found):
        typer.echo(line)
    if run_id is not None:
        typer.echo(f"run {run_id}: begin it with `videomind reindex start {run_id}`")


@reindex.command()
def start(run: RunId, database: Database = None) -> None:
    """Begin a planned run, or go on with a paused one. Workers do it, behind all live work."""
    with opened_store(database) as store:
        store.reindex.start(run)
        here = engine.fingerprint()
        broker.wake(ANALYSE, store.reindex.feed(here))
        _tell(store, run)
        wanted = store.reindex.run(run).fingerprint
    if wanted != here:
        remark(f"it asks checkpoint {wanted[:12]}, and here is {here[:12]}: only workers with that one do it")


@reindex.command()
def resume(run: RunId, database: Database = None) -> None:
    """Go on with a paused run."""
    start(run, database)


@reindex.command()
def pause(run: RunId, database: Database = None) -> None:
    """Begin nothing more of a run; what has begun ends."""
    with opened_store(database) as store:
        store.reindex.pause(run)
        _tell(store, run)


@reindex.command()
def cancel(run: RunId, database: Database = None) -> None:
    """End a run. What readers see of it already stays: take that back with rollback."""
    with opened_store(database) as store:
        store.reindex.cancel(run)
        _tell(store, run)


@reindex.command()
def rollback(run: RunId, database: Database = None) -> None:
    """Have readers see again what they saw before a run, all at once."""
    with opened_store(database) as store:
        back, left = store.reindex.rollback(run)
    typer.echo(f"run {run} was rolled back: {back} questions")
    if left:
        typer.echo(f"{left} were left: they were asked anew since, or what they had was pruned")


@reindex.command()
def status(
    run: Annotated[
        int | None,
        typer.Argument(metavar="RUN", min=1, max=_LARGEST_ID, help="This one; else the latest hundred."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until nothing runs any more.")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Tell how far runs are, what they took and what is still to come."""
    if watch and as_json:
        raise typer.BadParameter("JSON is told once", param_hint="--watch")
    with opened_store(database) as store:

        def look() -> list[Any]:
            return store.reindex.runs() if run is None else [store.reindex.run(run)]

        if as_json:
            for found in look():
                print_json(json.dumps(reindex_show.run_values(found), default=datetime.isoformat))
            return
        show.keep_showing(
            lambda: reindex_show.run_table(look()),
            lambda: watch and any(found.state == "running" for found in look()),
        )


@reindex.command()
def diff(
    run: RunId,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Changes at most.")] = 20,
    all_ranks: Annotated[bool, typer.Option("--all-ranks", help="Not the best moments alone.")] = False,
    contact_sheet: Annotated[
        Path | None, typer.Option(metavar="OUT.png", dir_okay=False, help="Frames of the largest changes.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Compare what readers saw before a run with what they see after it."""
    check_contact_sheet(contact_sheet)
    with opened_store(database) as store:
        store.reindex.run(run)
        counts = store.diffs.count(run, all_ranks)
        changes = store.diffs.largest(run, limit, all_ranks)
        places = store.diffs.places({change.video_id for change in changes}) if contact_sheet else {}
    if as_json:
        print_json(json.dumps({"run": run, "counts": dict(counts)}))
        for change in changes:
            print_json(json.dumps(asdict(change), ensure_ascii=False))
    else:
        Console().print(reindex_show.diff_table(counts, changes))
    if contact_sheet:
        from worker.reindex_sheet import draw  # loads torch

        draw(changes, places, current(), contact_sheet)


@reindex.command()
def prune(
    keep: Annotated[int, typer.Option(min=0, help="Earlier answers of each question.")] = 1,
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="What was replaced later stays.")
    ] = 30,
    dry_run: DryRun = False,
    database: Database = None,
) -> None:
    """Forget earlier answers that readers do not see any more. Nothing else ever does."""
    retention = Retention(keep, older_than)
    with opened_store(database) as store:
        total = store.pruning.count(retention)
        if dry_run:
            typer.echo(f"{total} earlier answers would be forgotten")
            return
        done = 0
        with progress() as report:
            while count := store.pruning.prune(retention):
                done += count
                report("pruning", min(1.0, done / max(1, total)))
        typer.echo(f"{done} earlier answers are forgotten")


def reasons_of(
    stale: bool, failed: bool, never: bool, older_than: float | None, low_score: float | None
) -> tuple[Reason, ...]:
    """What was named, or else what is not up to date."""
    given = (stale, failed, never, older_than is not None, low_score is not None)
    return tuple(reason for reason, on in zip(REASONS, given, strict=True) if on) or ("stale",)


def _tell(store: Store, run_id: int) -> None:
    Console().print(reindex_show.run_table([store.reindex.run(run_id)]))
