"""Stored things as text for a terminal, and rows for programs."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import zip_longest
from typing import Any, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vm.evaluation.samples import Sample, route_of
from vm.render import SHOWN_MOMENTS, describe, plain, print_result
from vm.result import Result
from vm.terminal import print_json
from worker.jobs import Accepted, Outcome
from worker.masking import masked
from worker.reader import Rows
from worker.settings import Told
from worker.sources.local import local_path
from worker.store.queues import Arrival, Depth, Standing

Form = Literal["table", "json", "csv"]


@dataclass(frozen=True)
class Board:
    """Everything there is to say of the queues at one moment."""

    depths: Mapping[str, Depth]
    arrivals: Sequence[Arrival]
    standings: Sequence[Standing]

    @property
    def idle(self) -> bool:
        """Nothing waits or runs."""
        return not any(depth.waiting or depth.running for depth in self.depths.values())

    def rows(self) -> Iterator[dict[str, Any]]:
        """For machines."""
        found: list[Arrival | Standing] = [*self.arrivals, *self.standings]
        for each in found:
            message = each.error_message and masked(each.error_message)
            yield {**asdict(each), "uri": masked(each.uri), "error_message": message}

    def shown(self) -> Group:
        """For a terminal, the latest first."""
        counts = (f"{name}: {d.waiting} waiting, {d.running} running" for name, d in self.depths.items())
        return Group(Text("; ".join(counts)), *([self._table()] if self.arrivals or self.standings else []))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("what", "id", "state", "progress"):
            table.add_column(column, no_wrap=True)
        for column in ("video", "question or error"):
            table.add_column(column, overflow="fold")
        for row in self.arrivals:
            told = _told(row.error_code, row.error_message)
            table.add_row("submission", str(row.submission_id), row.state, "", plain(masked(row.uri)), told)
        for each in self.standings:
            told = _told(each.error_code, each.error_message) or plain(each.question)
            at = _reached(each) if each.state == "running" else ""
            table.add_row("analysis", str(each.analysis_id), each.state, at, plain(masked(each.uri)), told)
        return table


def _reached(running: Standing) -> str:
    told = f"{running.progress:.0%} {running.stage or ''}"
    if running.eta is None:
        return told
    left = max(timedelta(0), running.eta - datetime.now(UTC))
    return f"{told}, {timedelta(seconds=round(left.total_seconds()))} left"


def _told(code: str | None, message: str | None) -> str:
    return plain(masked(f"{code}: {message}")) if code else ""


def keep_showing(look: Callable[[], RenderableType], goes_on: Callable[[], bool]) -> None:
    """Shows what there is, on a terminal anew each second as long as it goes on; what there is then stays."""
    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while goes_on():
            live.update(look(), refresh=True)
            time.sleep(1)
    console.print(look())


def setting_lines(setting: Told) -> tuple[str, str]:
    """One setting: what it is and where that comes from, and below it what it is for."""
    shown = "unset" if setting.value is None else plain(setting.value) or "none"
    return f"{setting.variable} = {shown}  ({setting.origin})", f"    {setting.description}"


def print_accepted(uri: str, accepted: Accepted, as_json: bool) -> None:
    """One submission's number, and with JSON those of its questions."""
    if as_json:
        print_json(json.dumps({"uri": masked(uri), **asdict(accepted)}))
    else:
        typer.echo(f"submission {accepted.submission_id}: {plain(masked(uri))}")


def found_line(outcome: Outcome) -> str:
    """One analysis in one line."""
    result = outcome.result
    found = [f"{outcome.analysis_id}", plain(local_path(outcome.uri).name), plain(outcome.question)]
    if result and result.best:
        found.append(describe(result.best.span))
    if result and result.answer:
        found.append(plain(result.answer.text))
    return "  ".join(found if result else [*found, outcome.state])


def print_outcomes(outcomes: Sequence[Outcome], truths: Sequence[Sample | None], console: Console) -> None:
    """One video's analyses under its name: what was found, or why nothing was.

    Args:
        truths: for each of them what would be right, shown beside what was found; None where nobody knows.
    """
    console.print(Text(plain(local_path(outcomes[0].uri).name), style="bold underline"))
    for outcome, truth in zip(outcomes, truths, strict=True):
        console.print()
        if outcome.result is None:
            console.print(Text(plain(f"{outcome.question}: {_reason(outcome)}"), style="yellow"))
            continue
        print_result(outcome.result, console)
        if truth is not None:
            console.print()
            console.print(Text("\n".join(truth_lines(truth, outcome.result))))
    console.print()


def truth_lines(truth: Sample, result: Result) -> Iterator[str]:
    """What would be right beside what was found, in columns; the judgement is left to the reader."""
    rows = [("", "true", "found", "IoU" if truth.spans else "")]
    if truth.mode and result.mode == "auto":
        rows.append(("plan", truth.mode, route_of(result.plan) or "none that could be used", ""))
    rows += _moment_rows(truth, result)
    if truth.answer:
        rows.append(("answer", truth.answer, result.answer.text if result.answer else "none", ""))
    return _aligned([[plain(cell) for cell in row] for row in rows])


def _moment_rows(truth: Sample, result: Result) -> Iterator[tuple[str, str, str, str]]:
    """True spans in their order, beside them the found ones best first, each with its best IoU."""
    if not truth.spans:
        return
    spans = [moment.span for moment in result.moments[:SHOWN_MOMENTS]]
    ious = [max(span.iou(true) for true in truth.spans) for span in spans]
    found = [(describe(span), f"{iou:.2f}") for span, iou in zip(spans, ious, strict=True)]
    pairs = zip_longest(map(describe, truth.spans), found or [("none", "0.00")])
    for number, (true, beside) in enumerate(pairs):
        yield "" if number else "moments", true or "", *(beside or ("", ""))


def write_rows(rows: Rows, form: Form) -> None:
    """Rows on stdout: aligned for people, JSON objects a line, or CSV with a head."""
    if form == "json":
        for values in rows.values:
            found = dict(zip(rows.names, values, strict=True))
            print_json(json.dumps(found, ensure_ascii=False, default=_plain_value))
    elif form == "csv":
        typer.echo(_csv(rows), nl=False)
    else:
        for line in table_lines(rows):
            typer.echo(line)


def _csv(rows: Rows) -> bytes:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.names)
    writer.writerows([_csv_cell(value) for value in row] for row in rows.values)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _csv_cell(value: Any) -> Any:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return _plain_value(value) if isinstance(value, datetime) else value


def _plain_value(value: Any) -> str:
    """What JSON has no form for."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table_lines(rows: Rows) -> Iterator[str]:
    """Rows in aligned columns under their names, numbers to four decimals."""
    cells = [[*rows.names], *([_cell(value) for value in row] for row in rows.values)]
    rule = ["-" * max(map(len, column)) for column in zip(*cells, strict=True)]
    return _aligned([cells[0], rule, *cells[1:]])


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _reason(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"failed ({outcome.error_code}): {outcome.error_message}"
    return f"{outcome.state}: another process works on it; run this again later to see what it found"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else plain(str(value))
