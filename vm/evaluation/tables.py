"""A report as tables for people: on a terminal, or as Markdown for a README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from vm.evaluation.bootstrap import Estimate
from vm.evaluation.report import ALL, Estimates, Report
from vm.render import plain

HEADLINES = ("Route", "R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "mIoP", "Acc", "Acc (IoP ≥ 0.5)")
_BY_GROUP = ("Route", "R1@0.5", "R1@0.7", "mIoU", "Acc", "Acc (IoP ≥ 0.5)")
_SHARE = "{:.1f}\n{:.1f}\N{EN DASH}{:.1f}"
_COUNTED = _SHARE + "\nn = {count}"
_CHANGE = "{:+.1f}\n{:+.1f} to {:+.1f}"


@dataclass(frozen=True)
class Table:
    """Cells of text: a figure, and on lines of their own its interval and count."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def make_tables(report: Report, shown: Sequence[str] = HEADLINES) -> list[Table]:
    """Every system over all samples and over each group that stands apart; the groups of the first system;
    and how far the other systems differ from it.

    Args:
        shown: the figures wanted, as far as there are any.
    """
    wholes = [group for group in (ALL, *report.apart) if group in report.figures]
    groups = [group for group in report.figures if group not in wholes]
    first = next(iter(report.systems))
    tables = [_systems(group, report.figures[group], shown) for group in wholes]
    if groups:
        by_group = {group: report.figures[group][first] for group in groups}
        tables.append(_groups(f"{first}, by group", by_group, [n for n in shown if n in _BY_GROUP] or shown))
    if any(report.differences.values()):
        tables.append(_systems(f"difference to {first}", report.differences, shown, _CHANGE))
    return tables


def _systems(title: str, found: Estimates, shown: Sequence[str], form: str = _SHARE) -> Table:
    rows = []
    for name in _known(found, shown):
        made = [found[system].get(name) for system in found]
        count = next(str(estimate.count) for estimate in made if estimate)
        rows.append((name, count, *(_cell(estimate, form) for estimate in made)))
    return Table(title, ("figure", "n", *found), tuple(rows))


def _groups(title: str, found: Estimates, shown: Sequence[str]) -> Table:
    names = _known(found, shown)
    rows = [(group, *(_cell(made.get(name), _COUNTED) for name in names)) for group, made in found.items()]
    return Table(title, ("group", *names), tuple(rows))


def _known(found: Estimates, shown: Sequence[str]) -> list[str]:
    return [name for name in shown if any(name in made for made in found.values())]


def _cell(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "-"
    percent = (100 * number for number in (estimate.value, estimate.low, estimate.high))
    return form.format(*percent, count=estimate.count)


def notes(report: Report) -> Iterator[str]:
    """What the tables leave open."""
    yield (
        f"Questions: {report.samples}, videos: {report.videos}. Figures in percent, each with its 95 % "
        "bootstrap interval, drawn by video."
    )
    for system, failed in report.failures.items():
        if failed:
            yield f"{system}: failed, and counted as wrong: {failed}."


def print_report(report: Report, tables: Sequence[Table], console: Console) -> None:
    for table in tables:
        drawn = TerminalTable(title=Text(plain(table.title)), title_justify="left", show_lines=True)
        for number, name in enumerate(table.header):
            drawn.add_column(Text(plain(name)), justify="right" if number else "left")
        for row in table.rows:
            drawn.add_row(*map(_lines, row))
        console.print(drawn)
    for note in notes(report):
        console.print(Text(plain(note)))


def _lines(cell: str) -> Text:
    return Text("\n".join(plain(line) for line in cell.split("\n")))


def to_markdown(report: Report, tables: Sequence[Table]) -> str:
    parts = [_markdown(table) for table in tables]
    return "\n\n".join([*parts, *(_escape(note) for note in notes(report))]) + "\n"


def _markdown(table: Table) -> str:
    rule = [":---", *["---:"] * (len(table.header) - 1)]
    header, *rows = ([_escape(_on_one_line(cell)) for cell in row] for row in (table.header, *table.rows))
    lines = [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]
    return "\n".join([f"**{_escape(table.title)}**", "", *lines])


def _on_one_line(cell: str) -> str:
    figure, *rest = cell.split("\n")
    return f"{figure} ({', '.join(rest)})" if rest else figure


def _escape(text: str) -> str:
    """Names come from annotations and command lines, and must not end a cell or begin a tag."""
    return plain(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
