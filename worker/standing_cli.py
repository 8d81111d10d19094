"""The commands around standing questions: keep them, and try them before they are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vm.cli import app, check_contact_sheet, parse_window
from vm.errors import QuestionError, VideoMindError
from vm.render import plain
from vm.terminal import print_json, progress, remark
from worker import backtest as trying
from worker import engine
from worker.deliveries import SECRET
from worker.errors import InvalidRule
from worker.jobs import AskSettings
from worker.masking import masked
from worker.options import WINDOW, AsJson, AskMode, Database, Options, SourceName, Window, opened_store
from worker.reindexing import utc
from worker.settings import current
from worker.standing import THRESHOLD, Footage, Kept, Standing

standing = typer.Typer(help="Questions that every new video is asked.", no_args_is_help=True)
app.add_typer(standing, name="standing")

Asked = Annotated[str, typer.Argument(metavar="QUESTION")]
Place = Annotated[str, typer.Option("--collection", metavar="NAME", help="A site, a course.")]
Threshold = Annotated[
    float, typer.Option(metavar="S", help="The least score of a hit: the verifier's, or else the confidence.")
]
Hours = Annotated[
    str | None, typer.Option(metavar="HOURS", help="Only hits at that time of day: 22:00-06:00.")
]
TimeZone = Annotated[str, typer.Option("--time-zone", metavar="ZONE", help="Of the hours: Europe/Berlin.")]
Since = Annotated[str | None, typer.Option(metavar="INSTANT", help="Recorded at or after, with its zone.")]
Until = Annotated[str | None, typer.Option(metavar="INSTANT", help="Recorded before.")]
LARGEST_ID = 2**63 - 1
"""That a database takes."""
StandingIds = Annotated[
    list[int],
    typer.Argument(metavar="ID...", min=1, max=LARGEST_ID, help="As `standing list` has them."),
]


@standing.command()
def add(
    question: Asked,
    collection: Place,
    source: SourceName = None,
    option: Options = None,
    mode: AskMode = "ground-answer",
    window: Window = WINDOW,
    threshold: Threshold = THRESHOLD,
    active_from: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Asked of what is recorded from then on.")
    ] = None,
    active_until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Asked of what is recorded before.")
    ] = None,
    hours: Hours = None,
    time_zone: TimeZone = "UTC",
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Is told of every hit, in a signed POST.")
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Keep it, and do not ask it yet.")] = False,
    database: Database = None,
) -> None:
    """Have every new video of a collection, or of one source in it, asked a question.

    \b
    videomind standing add "Who climbs the fence?" --collection depot --source gate-2 \\
        --hours 22:00-06:00 --time-zone Europe/Berlin --webhook https://alarm.example/hits

    Try it on what is there with `videomind standing backtest` first.
    """
    wanted = Standing(
        question,
        collection,
        source,
        tuple(option or ()),
        mode,
        AskSettings(parse_window(window)),
        threshold,
        instant(active_from, "--active-from"),
        instant(active_until, "--active-until"),
        hours,
        time_zone,
        webhook,
    )
    if webhook and current().webhook_secret is None:
        raise InvalidRule(f"what webhooks are sent is signed: set {SECRET}, here and for all workers, first")
    with opened_store(database) as store:
        known = store.standing.is_known(collection, source)
        added = store.standing.add(wanted, enabled=not disabled)
    typer.echo(f"standing question {added}: {plain(question)}")
    if not known:
        remark(f"nothing has come from {place(collection, source)} so far: is it spelled so?")


@standing.command("list")
def list_standing(database: Database = None, as_json: AsJson = False) -> None:
    """Show the standing questions, and how many hits each has."""
    with opened_store(database) as store:
        found = store.standing.all()
    if as_json:
        for kept in found:
            print_json(json.dumps(kept.to_dict(), ensure_ascii=False))
    else:
        Console().print(_table(found))


@standing.command()
def enable(ids: StandingIds, database: Database = None) -> None:
    """Have new videos asked again; what came meanwhile is not."""
    with opened_store(database) as store:
        store.standing.enable(ids, True)


@standing.command()
def disable(ids: StandingIds, database: Database = None) -> None:
    """Have new videos no longer asked, and no more hits."""
    with opened_store(database) as store:
        store.standing.enable(ids, False)


@standing.command()
def remove(ids: StandingIds, database: Database = None) -> None:
    """Forget standing questions and their hits; what videos were asked stays."""
    with opened_store(database) as store:
        store.standing.remove(ids)


@standing.command()
def backtest(
    question: Asked,
    collection: Place,
    source: SourceName = None,
    since: Since = None,
    until: Until = None,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="Videos to watch.")] = 20,
    option: Options = None,
    mode: AskMode = "ground-answer",
    window: Window = WINDOW,
    threshold: Threshold = THRESHOLD,
    hours: Hours = None,
    time_zone: TimeZone = "UTC",
    seed: Annotated[int, typer.Option(help="Another one chooses other videos.")] = 0,
    contact_sheet: Annotated[
        Path | None, typer.Option(metavar="OUT.png", dir_okay=False, help="Frames of the best hits.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Try a question on stored videos: hits a day to expect, examples, compute. Nothing is kept.

    \b
    videomind standing backtest "Who climbs the fence?" --collection depot --since 2026-02-01T00:00Z \\
        --sample 50 --contact-sheet fence.png
    """
    check_contact_sheet(contact_sheet)
    wanted = Standing(
        question,
        collection,
        source,
        tuple(option or ()),
        mode,
        AskSettings(parse_window(window)),
        threshold,
        instant(since, "--since"),
        instant(until, "--until"),
        hours,
        time_zone,
    )
    with opened_store(database) as store:
        archive = store.standing.footage(collection, source, wanted.active_from, wanted.active_until)
        if not archive:
            raise InvalidRule(f"there is no readable video of {place(collection, source)} from that time")
        report = _try(wanted, archive, trying.spread(archive, sample, seed), contact_sheet is not None)
    if as_json:
        print_json(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        for line in report.lines():
            typer.echo(line)
    if contact_sheet:
        _draw(report, contact_sheet)


def _try(
    wanted: Standing, archive: Sequence[Footage], sample: Sequence[Footage], draws: bool
) -> trying.Report:
    failed = []

    def told(footage: Footage, error: VideoMindError) -> None:
        failed.append(footage)
        remark(f"{masked(footage.uri)}: {error}")

    with progress() as report:
        report("loading", 0.0)
        mind = engine.loaded()
        trials = list(trying.watch(mind, wanted, sample, current(), report, told, draws))
    return trying.sum_up(archive, trials, len(failed))


def _draw(report: trying.Report, target: Path) -> None:
    from vm.contact_sheet import write_strips

    strips = [example.strip for example in report.examples if example.strip]
    if not strips:
        raise QuestionError("there is no hit to draw: try a lower threshold, or another question")
    write_strips(strips, target)


def instant(text: str | None, name: str) -> datetime | None:
    """Raises: typer.BadParameter where it is no time, has no zone, or is beyond the calendar."""
    if text is None:
        return None
    try:
        return utc(text)
    except InvalidRule as error:
        raise typer.BadParameter(str(error), param_hint=name) from error


def place(collection: str, source: str | None) -> str:
    """As text for a terminal."""
    return plain("/".join(filter(None, (collection, source))))


def _table(found: Sequence[Kept]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "on", "where", "question", "score", "hours", "webhook", "hits"):
        table.add_column(column, justify="left", overflow="fold")
    for kept in found:
        asked = kept.standing
        table.add_row(
            str(kept.id),
            "yes" if kept.enabled else "no",
            place(asked.collection, asked.source),
            plain(asked.question),
            f"{asked.threshold:g}",
            f"{asked.hours} {asked.time_zone}" if asked.hours else "",
            plain(masked(asked.webhook_url or "")),
            str(kept.hits),
        )
    return table
