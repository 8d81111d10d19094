"""Runs, schedules and differences, as text for a terminal or values for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from vm.moments import Span
from vm.render import describe, plain
from worker.reindexing import ItemState, Run, Selection
from worker.scheduling import Planned
from worker.store.diffs import Change, Changed

_SHOWN_STATES: tuple[ItemState, ...] = ("switched", "unchanged", "failed")


def selection_lines(found: Selection) -> Iterator[str]:
    """How much a rule chooses."""
    yield f"{found.questions} questions of {found.videos} videos, {found.video_hours:.2f} hours of video"
    for reason, count in sorted(found.reasons.items()):
        yield f"  {reason.replace('_', ' ')}: {count}"
    if found.estimated_seconds is None:
        yield "nothing was measured yet, so nobody knows what it will take"
    else:
        yield f"about {_duration(found.estimated_seconds)} of compute, by what questions have taken so far"


def run_values(run: Run) -> dict[str, Any]:
    """For machines."""
    return {
        **asdict(run),
        "done": run.done,
        "total": run.total,
        "remaining_seconds": run.remaining_seconds,
        "ends_at": run.ends_at(datetime.now(UTC)),
    }


def run_table(runs: Sequence[Run]) -> Table:
    """The latest first."""
    table = _table("run", "state", "done", *_SHOWN_STATES, "compute", "to come", "began", "ends")
    for run in runs:
        left, ends = run.remaining_seconds, run.ends_at(datetime.now(UTC))
        table.add_row(
            str(run.id),
            run.state.replace("_", " "),
            f"{run.done} of {run.total}",
            *(str(run.items.get(state, 0)) for state in _SHOWN_STATES),
            _duration(run.spent_seconds),
            "?" if left is None else _duration(left),
            _clock(run.started_at),
            f"{'' if run.finished_at else 'about '}{_clock(ends)}" if ends else "",
        )
    return table


def schedule_values(planned: Planned) -> dict[str, Any]:
    """For machines."""
    following = planned.schedule.next_after(datetime.now(UTC)) if planned.enabled else None
    return {**asdict(planned), "next": following}


def schedule_table(found: Sequence[Planned]) -> Table:
    """In the order of their names."""
    table = _table("name", "cron", "zone", "why", "next")
    for each in found:
        chosen = each.schedule
        following = f"{chosen.next_after(datetime.now(UTC)):%Y-%m-%d %H:%M} UTC" if each.enabled else "off"
        why = ", ".join(chosen.rule.reasons).replace("_", " ")
        table.add_row(plain(chosen.name), plain(chosen.cron), chosen.time_zone, why, following)
    return table


def diff_table(counts: Mapping[Change, int], changes: Sequence[Changed]) -> Table:
    """The counts as title, the largest changes below."""
    title = ", ".join(f"{counts[change]} {change}" for change in sorted(counts)) or "nothing to compare"
    table = _table("change", "video", "question", "before", "after", "IoU")
    table.title, table.title_justify = title, "left"
    for each in changes:
        table.add_row(
            each.change,
            plain(each.video),
            plain(each.question),
            _told(each.old_start_seconds, each.old_end_seconds, each.old_answer, each.change),
            _told(each.new_start_seconds, each.new_end_seconds, each.new_answer, each.change),
            "" if each.iou is None else f"{each.iou:.2f}",
        )
    return table


def _told(start: float | None, end: float | None, answer: str | None, change: Change) -> str:
    if change == "answer changed":
        return plain(answer or "none")
    return "" if start is None or end is None else describe(Span(start, end))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left", overflow="fold")
    return table


def _clock(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else ""


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
