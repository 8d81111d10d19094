"""Stored things as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rich.console import Console
from rich.text import Text

from vm.evaluation.samples import Sample, route_of
from vm.render import SHOWN_MOMENTS, describe, plain, print_result
from vm.result import Result
from worker.jobs import Outcome
from worker.media import local_path
from worker.reader import Rows


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
