"""The largest changes of a re-indexing run as pictures: what readers saw above what they see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from vm.contact_sheet import Strip, read_strips, write_strips
from vm.errors import QuestionError, VideoError
from vm.moments import Span
from vm.render import describe, plain
from vm.terminal import progress, remark
from worker.ingest import fetched, opened
from worker.masking import masked
from worker.settings import Settings
from worker.store.diffs import Changed


def draw(changes: Sequence[Changed], settings: Settings, target: Path) -> None:
    """Writes a PNG; a video that cannot be read any more is told and left out.

    Raises:
        QuestionError: there is nothing to draw, or the picture cannot be written.
    """
    found: list[Strip] = []
    ordered = sorted(changes, key=attrgetter("video"))
    videos = [(uri, list(some)) for uri, some in groupby(ordered, attrgetter("video"))]
    with progress() as report:
        for number, (uri, some) in enumerate(videos):
            report("reading", number / len(videos))
            captions = [caption for change in some for caption in _captions(change)]
            try:
                with fetched(uri, settings, None) as file, opened(file.path, settings) as reader:
                    found += read_strips(captions, reader) if captions else []
            except VideoError as error:
                remark(f"{masked(uri)}: {error}")
    if not found:
        raise QuestionError("no moment has changed, so there is nothing to draw")
    write_strips(found, target)


def _captions(change: Changed) -> Iterator[tuple[str, Span]]:
    """Each side of a change that there is, with the stretch to show."""
    sides = (
        ("before", change.old_start_seconds, change.old_end_seconds),
        ("after", change.new_start_seconds, change.new_end_seconds),
    )
    for name, start, end in sides:
        if start is not None and end is not None:
            span = Span(start, end)
            yield f"{change.change}, {name}   {describe(span)}   {plain(change.question)}", span
