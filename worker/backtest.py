"""Tries a question on stored videos before it is switched on: how many hits it would have, and at what cost.

Only looks: nothing of it is kept.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nlargest
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from vm.errors import CheckpointError, VideoMindError
from vm.moments import Span
from vm.render import describe, plain
from worker import ingest, rows
from worker.errors import InvalidRule
from worker.events import Stretch, events, is_border
from worker.masking import masked
from worker.settings import Settings
from worker.sources.local import local_path
from worker.standing import Footage, Standing

if TYPE_CHECKING:
    from vm import VideoMind
    from vm.contact_sheet import Strip
    from vm.result import Result
    from vm.video import OpenVideo

EXAMPLES = 8
"""Videos of which the best hit is shown."""

Told = Callable[[Footage, VideoMindError], None]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Example:
    """The best hit of a video. `strip` has its frames, where they are wanted."""

    footage: Footage
    span: Span
    score: float
    answer: str | None
    strip: Strip | None

    @property
    def starts_at(self) -> datetime | None:
        """None where it is not known when it was recorded."""
        return rows.instants(self.span, self.footage.recorded_at)[0]

    @property
    def caption(self) -> str:
        """In one line."""
        begin = self.starts_at
        name = plain(local_path(self.footage.uri).name)
        parts = (
            f"{self.score:.2f}",
            f"{begin:%Y-%m-%d %H:%M:%S} UTC" if begin else "",
            name,
            describe(self.span),
            plain(self.answer or ""),
        )
        return "  ".join(filter(None, parts))


@dataclass(frozen=True)
class Trial:
    """One video that was looked at: what of it would be a hit, and how many seconds that took."""

    footage: Footage
    seen: tuple[Stretch, ...]
    example: Example | None
    seconds: float


@dataclass(frozen=True)
class Report:
    """What a sample says of an archive. Hours are of video, except those of compute."""

    archive_videos: int
    archive_hours: float
    days: float
    videos: int
    failed: int
    hours: float
    hits: int
    compute_seconds: float
    examples: tuple[Example, ...]

    @property
    def hours_a_day(self) -> float:
        """Recorded."""
        return self.archive_hours / self.days

    @property
    def hits_a_day(self) -> float:
        return self.hits / self.hours * self.hours_a_day

    @property
    def compute_rate(self) -> float:
        """Seconds for each second of video."""
        return self.compute_seconds / (self.hours * 3600)

    @property
    def compute_hours_a_day(self) -> float:
        return self.compute_rate * self.hours_a_day

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "archive": {"videos": self.archive_videos, "hours": self.archive_hours, "days": self.days},
            "sample": {"videos": self.videos, "failed": self.failed, "hours": self.hours, "hits": self.hits},
            "hours_a_day": self.hours_a_day,
            "hits_a_day": self.hits_a_day,
            "compute_seconds_per_video_second": self.compute_rate,
            "compute_hours_a_day": self.compute_hours_a_day,
            "examples": [
                {
                    "video": masked(example.footage.uri),
                    "start_seconds": example.span.start,
                    "end_seconds": example.span.end,
                    "starts_at": example.starts_at and example.starts_at.isoformat(),
                    "score": example.score,
                    "answer": example.answer,
                }
                for example in self.examples
            ],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"{self.videos} of {self.archive_videos} videos watched: {self.hours:.2f} of "
            f"{self.archive_hours:.2f} hours, recorded within {self.days:.1f} days"
        )
        if self.failed:
            yield f"{self.failed} could not be watched, and count as if they had not been chosen"
        yield (
            f"{self.hits_a_day:.1f} hits a day expected: {self.hits} in {self.hours:.2f} hours watched, "
            f"times {self.hours_a_day:.2f} hours recorded a day"
        )
        yield (
            f"{self.compute_hours_a_day:.2f} hours of compute a day on this machine: "
            f"{self.compute_rate:.2f} s for each second of video"
        )
        yield from (example.caption for example in self.examples)


def spread(footage: Sequence[Footage], count: int, seed: int) -> list[Footage]:
    """One video, by chance, of each of `count` stretches of as many videos: from all of the time."""
    if count >= len(footage):
        return list(footage)
    chance = random.Random(seed)  # noqa: S311 - the same sample again for the same seed
    bounds = [len(footage) * number // count for number in range(count + 1)]
    return [footage[chance.randrange(*bound)] for bound in pairwise(bounds)]


def watch(
    mind: VideoMind,
    standing: Standing,
    sample: Sequence[Footage],
    settings: Settings,
    report: Progress,
    told: Told,
    draws: bool,
) -> Iterator[Trial]:
    """Asks each video. What cannot be watched is told and passed over.

    Args:
        draws: whether examples are to have frames.

    Raises:
        CheckpointError: nothing can be asked.
    """
    scores: list[float] = []
    for number, footage in enumerate(sample):
        place = f"{number + 1} of {len(sample)}"
        report(place, number / len(sample))

        def progress(stage: str, _: float, place: str = place, done: float = number / len(sample)) -> None:
            report(f"{place}: {stage}", done)

        try:
            drawn_above = _least(scores) if draws else math.inf
            trial = _watch_one(mind, standing, footage, settings, progress, drawn_above)
            scores += [trial.example.score] if trial.example else []
            yield trial
        except CheckpointError:
            raise
        except VideoMindError as error:
            told(footage, error)


def sum_up(archive: Sequence[Footage], trials: Sequence[Trial], failed: int) -> Report:
    """What the trials say of the archive they were taken from.

    Raises:
        InvalidRule: nothing was watched.
    """
    if not trials:
        raise InvalidRule("no video could be watched, so nothing can be told")
    first = min(each.began for each in archive)
    last = max(each.began + timedelta(seconds=min(each.duration, rows.LONGEST_RECORDING)) for each in archive)
    found = [trial.example for trial in trials if trial.example]
    return Report(
        archive_videos=len(archive),
        archive_hours=sum(each.duration for each in archive) / 3600,
        days=max(1.0, (last - first) / timedelta(days=1)),
        videos=len(trials),
        failed=failed,
        hours=sum(trial.footage.duration for trial in trials) / 3600,
        hits=_count(trials),
        compute_seconds=sum(trial.seconds for trial in trials),
        examples=tuple(nlargest(EXAMPLES, found, key=lambda example: example.score)),
    )


def _watch_one(
    mind: VideoMind,
    standing: Standing,
    footage: Footage,
    settings: Settings,
    progress: Progress,
    drawn_above: float,
) -> Trial:
    request = standing.request
    with ingest.fetched(footage.uri, settings, footage.sha256) as file:
        began = time.monotonic()
        # Nothing that was kept of the video may make it look cheaper than a new one: no content hash.
        with ingest.opened(file.path, settings) as reader, mind.open(reader, content_hash=None) as watched:
            result = watched.ask(
                request.question,
                mode=request.mode,
                options=request.options,
                subtitles=(),
                window=request.settings.window,
                min_answer_seconds=request.settings.min_answer_seconds,
                progress=progress,
            )
            seconds = time.monotonic() - began
            hits = sorted(_hits(standing, footage, result), reverse=True)
            example = _example(footage, result, *hits[0], reader, drawn_above) if hits else None
    return Trial(footage, tuple(_stretch(footage, span, result) for _, span in hits), example, seconds)


def _hits(standing: Standing, footage: Footage, result: Result) -> Iterator[tuple[float, Span]]:
    for moment in result.moments:
        candidate = moment.candidate
        score = candidate.confidence if candidate.verifier_score is None else candidate.verifier_score
        begin, _ = rows.instants(candidate.span, footage.recorded_at)
        if standing.is_hit(score, candidate.fallback, begin):
            yield score, candidate.span


def _least(scores: Sequence[float]) -> float:
    """What a hit must score above to be an example: of others the frames need not be read."""
    return -math.inf if len(scores) < EXAMPLES else nlargest(EXAMPLES, scores)[-1]


def _example(
    footage: Footage, result: Result, score: float, span: Span, reader: OpenVideo, drawn_above: float
) -> Example:
    from vm.contact_sheet import read_strips

    found = Example(footage, span, score, result.answer.text if result.answer else None, None)
    if score <= drawn_above:
        return found
    (strip,) = read_strips([(found.caption, span)], reader)
    return replace(found, strip=strip)


def _stretch(footage: Footage, span: Span, result: Result) -> Stretch:
    windows = [border for window in result.windows for border in (window.span.start, window.span.end)]
    borders = (0.0, footage.duration, *windows)
    offset = footage.recorded_at.timestamp() if footage.recorded_at else 0.0
    cuts = is_border(span.start, borders), is_border(span.end, borders)
    return Stretch(span.start + offset, span.end + offset, *cuts)


def _count(trials: Sequence[Trial]) -> int:
    """Events: what a camera saw twice is one, as it would be for a standing question."""

    def clock_of(trial: Trial) -> tuple[int, int]:
        timed = trial.footage.recorded_at is not None
        return (0, trial.footage.source_id or 0) if timed else (1, trial.footage.video_id)

    together = groupby(sorted(trials, key=clock_of), key=clock_of)
    return sum(len(events([each for trial in some for each in trial.seen])) for _, some in together)
