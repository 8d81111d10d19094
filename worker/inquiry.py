"""Works through what `videomind run` asks: shows what is found, complains of what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from rich.console import Console

from vm.errors import VideoError, VideoMindError
from vm.inquiry import numbered
from vm.terminal import complain, exit_code, print_json, progress
from worker import runner, show
from worker.batch import Batch
from worker.errors import INTERNAL_ERROR, exit_status
from worker.jobs import Outcome
from worker.sources.local import local_path


@dataclass(frozen=True)
class Output:
    """How results are shown: as text or JSON, and as a contact sheet each if a file is named."""

    as_json: bool = False
    contact_sheet: Path | None = None


def ask_all(batches: Sequence[Batch], output: Output) -> Iterator[int]:
    """Asks everything of every video, whatever becomes of the others; yields an exit code for each part.

    Raises:
        DatabaseUnusable, CheckpointError: nothing can be asked.
    """
    with progress() as report:
        report("loading", 0.0)
        runner.prepare()
    total = sum(len(batch.requests) for batch in batches)
    numbers = count(1)
    for batch in batches:
        places = [next(numbers) for _ in batch.requests]
        try:
            with progress() as report:
                outcomes = runner.answer(batch.video, batch.requests, report)
        except VideoError as error:
            yield told(error)
            continue
        _show(batch, outcomes, output.as_json)
        yield from map(_code, outcomes)
        if output.contact_sheet:
            sheets = [numbered(output.contact_sheet, place, total) for place in places]
            yield from map(_draw, outcomes, sheets)


def told(error: VideoMindError) -> int:
    """Complains of an error, and gives its exit code."""
    complain(error)
    return exit_code(error)


def _code(outcome: Outcome) -> int:
    return 0 if outcome.state == "succeeded" else exit_status(outcome.error_code or INTERNAL_ERROR)


def _show(batch: Batch, outcomes: Sequence[Outcome], as_json: bool) -> None:
    if not as_json:
        truths = [batch.truths.get(request) for request in batch.requests]
        show.print_outcomes(outcomes, truths, Console())
        return
    for outcome in outcomes:
        print_json(json.dumps(outcome.to_dict(), ensure_ascii=False))


def _draw(outcome: Outcome, target: Path) -> int:
    """The contact sheet of what was found, if anything was."""
    from vm.contact_sheet import write_contact_sheet
    from vm.video import open_video

    if outcome.result is None:
        return 0
    try:
        with open_video(local_path(outcome.uri)) as reader:
            write_contact_sheet(outcome.result, reader, target)
    except VideoMindError as error:
        return told(error)
    return 0
