"""The largest changes of a re-indexing run as pictures: what readers saw above what they see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from vm.contact_sheet import Strip, read_strips, write_strips
from vm.errors import QuestionError, VideoError
from vm.moments import Span
from vm.render import describe, plain
from vm.terminal import progress, remark
from worker import ingest
from worker.settings import Settings
from worker.store.diffs import Changed


def draw(
    changes: Sequence[Changed], places: Mapping[int, tuple[str, str]], settings: Settings, target: Path
) -> None:
    """Writes a PNG; a video that cannot be read any more is told and left out.

    Args:
        places: the videos' URIs and sha256, by id.

    Raises:
        QuestionError: there is nothing to draw, or the picture cannot be written.
    """
    moved = sorted((change for change in changes if any(_captions(change))), key=attrgetter("video_id"))
    videos = [list(some) for _, some in groupby(moved, attrgetter("video_id"))]
    if not videos:
        raise QuestionError("no moment has changed, so there is nothing to draw")
    found: list[Strip] = []
    with progress() as report:
        for number, some in enumerate(videos):
            report("reading", number / len(videos))
            uri, sha256 = places[some[0].video_id]
            try:
                with (
                    ingest.fetched(uri, settings, sha256) as file,
                    ingest.opened(file.path, settings) as reader,
                ):
                    found += read_strips([caption for each in some for caption in _captions(each)], reader)
            except VideoError as error:
                remark(f"{some[0].video}: {error}")
    if not found:
        raise QuestionError("none of the videos can be read, so there is nothing to draw")
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
