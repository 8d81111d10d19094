"""Assignments → lessons. Videos are opened when their turn comes, and what they look like is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.utils.data import Dataset

from vm.config import ChainSettings
from vm.errors import InvalidSource, TrainingDataError, VideoError
from vm.footage import Footage, View
from vm.mind import VideoMind
from vm.moments import Span
from vm.roles.verifier import zoomed_view
from vm.training.assignments import Assignment
from vm.training.feature_store import FeatureStore
from vm.training.lessons import Example, Lesson
from vm.video import open_video


class LessonBook(Dataset[Lesson]):
    """The lessons of a role, in the order of its assignments.

    A video that cannot be read is told once, and the next lesson stands in for each of its own.

    Args:
        mind: gives frames, features and settings; its adapters are not looked at.
        report: gets a line for each video that cannot be read.
    """

    def __init__(
        self,
        mind: VideoMind,
        role: str,
        assignments: Sequence[Assignment],
        store: FeatureStore,
        report: Callable[[str], None],
    ) -> None:
        self._mind, self._role, self._store, self._report = mind, role, store, report
        self._assignments = assignments
        self._views: dict[int, tuple[View, Span]] = {}
        self._skipped: set[int] = set()

    def __len__(self) -> int:
        return len(self._assignments)

    def __getitem__(self, number: int) -> Lesson:
        """Raises: TrainingDataError: no video at all can be read."""
        for place in (*range(number, len(self)), *range(number)):
            if place not in self._skipped:
                try:
                    return self._lesson(place, self._assignments[place])
                except VideoError as error:
                    self._skip(place, error)
        raise TrainingDataError("none of the videos can be read")

    def _skip(self, place: int, error: VideoError) -> None:
        """All of the video, unless only what was to be shown of it is missing."""
        self._report(f"skipped: {error}")
        video = self._assignments[place].video
        of_video = {i for i, other in enumerate(self._assignments) if other.video == video}
        self._skipped |= {place} if isinstance(error, _NothingShown) else of_video

    def _lesson(self, place: int, assignment: Assignment) -> Lesson:
        known = self._views.get(place)
        features = self._store.get(self._key(assignment.video, known[0])) if known else None
        if known is None or features is None:
            with open_video(assignment.video) as reader:
                footage = Footage(reader, self._mind.cast.backbone, self._mind.markers, reuse_bytes=0)
                known = self._views[place] = self._look(footage, assignment)
                features = self._features(footage, assignment.video, known[0])
        view, window = known
        examples = tuple(_relative(example, window) for example in assignment.examples)
        return Lesson(features, view.token_grid, assignment.before, examples, view.marked)

    def _look(self, footage: Footage, assignment: Assignment) -> tuple[View, Span]:
        """What is shown, as the role itself looks, and the stretch of video that fractions are of."""
        shown = assignment.shown or Span(0.0, footage.duration)
        window = Span.clamped(shown.start, shown.end, footage.duration)
        if self._role == "verifier":
            return zoomed_view(self._mind.cast, footage, window, ChainSettings()), window
        if not window.length:
            raise _NothingShown(f"{assignment.video}: ends at {footage.duration:g} s, before the segment")
        seen_whole = assignment.shown is None and self._role not in ("grounder", "answerer")
        settings = self._mind.cast.settings(self._role)
        return footage.view(settings, None if seen_whole else window), window

    def _features(self, footage: Footage, video: Path, view: View) -> Tensor:
        key = self._key(video, view)
        features = self._store.get(key)
        if features is None:
            # Cloned: what inference mode makes takes no part in training.
            features = footage.features([view])[0].clone()
            self._store.put(key, features)
        return features

    def _key(self, video: Path, view: View) -> str:
        try:
            facts = os.stat(video)
        except OSError as error:
            raise InvalidSource(f"{video}: {error.strerror}") from error
        file = (str(video.resolve()), facts.st_size, facts.st_mtime_ns)
        return repr((file, replace(view, marked=None), self._mind.fingerprint))


class _NothingShown(VideoError):
    """The video is fine, but what was to be shown of it is not in it."""


def _relative(example: Example, window: Span) -> Example:
    """With its spans as fractions of the window."""
    if not example.spans:
        return example
    inside = [Span.clamped(s - window.start, e - window.start, window.length) for s, e in example.spans]
    fractions = tuple((span.start / window.length, span.end / window.length) for span in inside)
    return replace(example, spans=fractions)
