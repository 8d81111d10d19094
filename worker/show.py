"""Stored things as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from vm.render import plain, print_result
from worker.jobs import Outcome
from worker.media import local_path
from worker.reader import Rows


def print_outcomes(outcomes: Sequence[Outcome], console: Console) -> None:
    """One video's analyses under its name: what was found, or why nothing was."""
    console.print(Text(plain(local_path(outcomes[0].uri).name), style="bold underline"))
    for outcome in outcomes:
        console.print()
        if outcome.result is not None:
            print_result(outcome.result, console)
        else:
            console.print(Text(plain(f"{outcome.question}: {_reason(outcome)}"), style="yellow"))
    console.print()


def table_lines(rows: Rows) -> Iterator[str]:
    """Rows in aligned columns under their names, numbers to four decimals."""
    cells = [rows.names, *([_cell(value) for value in row] for row in rows.values)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in (cells[0], ["-" * width for width in widths], *cells[1:]):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _reason(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"failed ({outcome.error_code}): {outcome.error_message}"
    return f"{outcome.state}: another process works on it; run this again later to see what it found"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else plain(str(value))
