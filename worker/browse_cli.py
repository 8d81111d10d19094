"""The commands that read what was found, and where was looked: moments, answers, coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any

import typer

from vm.cli import app
from vm.moments import Span
from vm.render import describe
from vm.terminal import remark
from worker import show
from worker.daytime import Hours, zone_of
from worker.errors import InvalidRule
from worker.jobs import VERDICTS
from worker.masking import masked
from worker.options import AsCsv, AsJson, CollectionName, Database, SourceName, form, opened_store
from worker.reader import Rows
from worker.sources.local import local_path
from worker.store.browse import Wanted

LIMIT = 50
Words = Annotated[
    str | None,
    typer.Option("--text", metavar="WORDS", help="That all occur in question, query and answer."),
]
Since = Annotated[
    str | None, typer.Option(metavar="INSTANT", help="Recorded at or after it, as 2026-03-01T08:00.")
]
Until = Annotated[str | None, typer.Option(metavar="INSTANT", help="Recorded before it.")]
Between = Annotated[
    str | None, typer.Option(metavar="HOURS", help="Begins at that time of day, as 22:00-06:00.")
]
TimeZone = Annotated[
    str, typer.Option("--time-zone", metavar="ZONE", help="Of what is given and shown, as Europe/Berlin.")
]
Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="Rows at most.")]


@app.command()
def moments(
    text: Words = None,
    collection: CollectionName = None,
    source: SourceName = None,
    since: Since = None,
    until: Until = None,
    between: Between = None,
    time_zone: TimeZone = "UTC",
    min_score: Annotated[
        float | None, typer.Option(metavar="S", help="The least verifier score, or unverified confidence.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="1 is the best of each analysis.")] = 1,
    all_ranks: Annotated[bool, typer.Option("--all-ranks", help="Not the best alone.")] = False,
    limit: Limit = LIMIT,
    database: Database = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show the moments that were found, the latest first.

    \b
    videomind moments --collection depot --since 2026-03-01 --between 22:00-06:00 --time-zone Europe/Berlin
    videomind moments --text "red lorry" --min-score 0.6 --csv > lorries.csv
    """
    look = _look(text, collection, source, since, until, between, time_zone, limit, as_json, as_csv)
    with opened_store(database) as store:
        found = store.browse.moments(look.wanted, None if all_ranks else rank, min_score)
    look.show(found, "confidence", "verifier_score", "question", "answer")


@app.command()
def answers(
    text: Words = None,
    collection: CollectionName = None,
    source: SourceName = None,
    since: Since = None,
    until: Until = None,
    between: Between = None,
    time_zone: TimeZone = "UTC",
    limit: Limit = LIMIT,
    database: Database = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show what was answered, and the piece of video each answer rests on; the latest first.

    \b
    videomind answers --text gate --source gate-2 --limit 5
    """
    look = _look(text, collection, source, since, until, between, time_zone, limit, as_json, as_csv)
    with opened_store(database) as store:
        found = store.browse.answers(look.wanted)
    look.show(found, "question", "answer_option", "answer")


@app.command()
def coverage(
    gaps: Annotated[bool, typer.Option("--gaps", help="What was not searched instead.")] = False,
    verdict: Annotated[
        str | None, typer.Option(metavar="VERDICT", help=f"{', '.join(VERDICTS)}; else all.")
    ] = None,
    text: Words = None,
    collection: CollectionName = None,
    source: SourceName = None,
    since: Since = None,
    until: Until = None,
    between: Between = None,
    time_zone: TimeZone = "UTC",
    limit: Limit = LIMIT,
    database: Database = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show which windows of which videos were searched, and what came of it; or what no window covers.

    \b
    videomind coverage --text lorry --verdict nothing_found --since 2026-03-01 --until 2026-03-02
    videomind coverage --gaps --source gate-2
    """
    if verdict is not None and (gaps or verdict not in VERDICTS):
        told = "a gap has none" if gaps else f"no such verdict: {verdict}"
        raise typer.BadParameter(told, param_hint="--verdict")
    look = _look(text, collection, source, since, until, between, time_zone, limit, as_json, as_csv)
    with opened_store(database) as store:
        if gaps:
            look.show(store.browse.gaps(look.wanted), "question", "state")
        else:
            found = store.browse.windows(look.wanted, verdict)
            look.show(found, "question", "frames", "best_score", "verdict")


@dataclass(frozen=True)
class _Look:
    """What is looked for, and how it is shown."""

    wanted: Wanted
    zone: tzinfo
    form: show.Form

    def show(self, rows: Rows, *columns: str) -> None:
        """Args: columns: what people want to see of a row, besides when and where it was."""
        found = [dict(zip(rows.names, values, strict=True)) for values in rows.values]
        if not found:
            known = " (of recordings whose beginning is known)" if self.wanted.timed else ""
            remark(f"nothing found{known}")
        if self.form != "table":
            exact = [tuple(self._exact(row).values()) for row in found]
            show.write_rows(Rows(rows.names, exact), self.form)
        elif found:
            names = ("when", "source", "video", "span", *columns)
            values = [(*self._place(row), *(row[name] for name in columns)) for row in found]
            show.write_rows(Rows(names, values), self.form)
        if len(found) == self.wanted.limit:
            remark(f"{len(found)} rows: there may be more, with --limit")

    def _place(self, row: Mapping[str, Any]) -> Sequence[str]:
        began = row["starts_at"]
        when = f"{began.astimezone(self.zone):%Y-%m-%d %H:%M:%S}" if began else ""
        source = "/".join(filter(None, (row["collection"], row["source"])))
        span = describe(Span(row["start_seconds"], row["end_seconds"]))
        return when, source, local_path(row["video"]).name, span

    def _exact(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        instants = {name: row[name] and row[name].astimezone(self.zone) for name in ("starts_at", "ends_at")}
        return {**row, **instants, "video": masked(row["video"])}


def _look(
    text: str | None,
    collection: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    between: str | None,
    time_zone: str,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> _Look:
    """Raises: typer.BadParameter."""
    try:
        zone: tzinfo = UTC if time_zone == "UTC" else zone_of(time_zone)
    except InvalidRule as error:
        raise typer.BadParameter(str(error), param_hint="--time-zone") from error
    try:
        hours = Hours.parse(between, time_zone) if between else None
    except InvalidRule as error:
        raise typer.BadParameter(str(error), param_hint="--between") from error
    began, ended = _instant(since, zone, "--since"), _instant(until, zone, "--until")
    wanted = Wanted(text, collection, source, began, ended, hours, limit)
    return _Look(wanted, zone, form(as_json, as_csv))


def _instant(text: str | None, zone: tzinfo, name: str) -> datetime | None:
    """An ISO 8601 time; without a zone of its own it is of the one that is shown."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time: write 2026-03-01T08:00", param_hint=name) from error
    return found if found.tzinfo else found.replace(tzinfo=zone)
