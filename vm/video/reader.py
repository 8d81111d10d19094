"""The frames of a video file, by index: right ones, upright, in RGB and in the size asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Protocol

import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from vm.closing import Closing
from vm.errors import NoFrames
from vm.moments import Span
from vm.result import VideoFacts
from vm.video.decoding import Run, plan_runs, show
from vm.video.inspection import inspect
from vm.video.limits import MediaLimits
from vm.video.pixels import upright_rgb
from vm.video.resampling import resize
from vm.video.sampling import sample_indices
from vm.video.source import Source, check_regular_file, typed_errors

# Independent single-threaded decoders, which beat one decoder with as many threads.
_WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Frames:
    """Frames in the order they were asked for.

    Attributes:
        pixels: uint8 (N, 3, height, width), RGB.
        timestamps: when each was shown, in seconds from the video's first frame.
    """

    pixels: Tensor
    timestamps: tuple[float, ...]


class OpenVideo(Protocol):
    """An open video file, wherever it is read: see `VideoReader`."""

    info: VideoFacts
    recorded_at: datetime | None
    warnings: list[str]

    def sample(self, span: Span | None, frame_rate: float, max_frames: int) -> tuple[int, ...]: ...

    def timestamp(self, index: int) -> float: ...

    def read(self, indices: Sequence[int], size: tuple[int, int]) -> Frames: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Picture:
    target: int
    pts: int
    pixels: Tensor
    exact: bool


class VideoReader(Closing):
    """An open video file. For one thread at a time; a context manager.

    Attributes:
        info: facts about the video.
        recorded_at: when the recording began, with its zone; None where the file does not tell.
        warnings: what was found damaged or missing, for the user; grows while reading.

    Raises:
        VideoError: when opening or reading, one of the kinds in `vm.errors`.
    """

    def __init__(self, path: str | os.PathLike[str], limits: MediaLimits | None = None) -> None:
        self._path = check_regular_file(path)
        self._limits = limits or MediaLimits()
        with typed_errors(self._path):
            found = inspect(self._path, self._limits)
        self.info: VideoFacts = found.facts
        self.recorded_at = found.recorded_at
        self.warnings: list[str] = []
        self._timeline = found.timeline
        self._times: dict[int, float] = {}
        self._idle: dict[bool, list[Source]] = {False: [], True: []}
        if not found.complete:
            self._warn(f"the file ends early: frames after {self.info.duration:.1f} s are missing")

    def sample(self, span: Span | None, frame_rate: float, max_frames: int) -> tuple[int, ...]:
        """Indices of evenly spaced frames; see `vm.video.sampling.sample_indices`."""
        return sample_indices(self.info.frame_count, self.info.frame_rate, span, frame_rate, max_frames)

    def timestamp(self, index: int) -> float:
        """When frame `index` is shown, in seconds from the first frame.

        Before it was read, some containers tell no more than its place in an even rhythm.
        """
        if self._timeline.pts:
            return self._timeline.seconds(self._timeline.target(index))
        return self._times.get(index, index / self.info.frame_rate)

    def read(self, indices: Sequence[int], size: tuple[int, int]) -> Frames:
        """Decodes each of these frames once, whatever their order and however often they are named.

        Args:
            indices: from 0 to `info.frame_count - 1`.
            size: (height, width) in pixels.

        Raises:
            IndexError: an index outside the video.
            VideoError: nothing of it decodes, or it takes too long.
        """
        check_indices(indices, self.info)
        targets = [self._timeline.target(index) for index in indices]
        pictures = self._pictures(sorted(set(targets)), size)
        timestamps = tuple(self._timeline.seconds(pictures[target].pts) for target in targets)
        self._times.update(zip(indices, timestamps, strict=True))
        pixels = torch.empty((len(targets), 3, *size), dtype=torch.uint8)
        for place, target in enumerate(targets):
            pixels[place] = pictures[target].pixels
        return Frames(pixels, timestamps)

    def close(self) -> None:
        """Gives back all open files. Reading again opens them anew."""
        for source in chain(*self._idle.values()):
            source.close()
        self._idle = {False: [], True: []}

    def _pictures(self, targets: list[int], size: tuple[int, int]) -> dict[int, _Picture]:
        """Every target with its picture; what does not decode has the one before it."""
        runs = plan_runs(targets, self._timeline.keys)
        with typed_errors(self._path), _workers() as workers:
            decode = partial(self._decode, size=size, alone=len(runs) == 1)
            found = {picture.target: picture for picture in chain(*workers.map(decode, runs))}
        if targets and not found:
            raise NoFrames(f"{self._path}: damaged; nothing decodes in the part that was asked for.")
        self._warn_of_damage([t for t in targets if t not in found or not found[t].exact])
        known = sorted(found)
        return {t: found.get(t) or found[max((k for k in known if k < t), default=known[0])] for t in targets}

    def _decode(self, run: Run, size: tuple[int, int], alone: bool) -> list[_Picture]:
        source = self._idle[alone].pop() if self._idle[alone] else Source(self._path, self._limits, alone)
        reformatter = VideoReformatter()
        source.restart_clock()
        pictures = []
        for shown in show(source, self._timeline, run):
            pixels = resize(upright_rgb(shown.frame, reformatter), size)
            pictures.append(_Picture(shown.target, shown.pts, pixels, shown.exact))
        self._idle[alone].append(source)
        return pictures

    def _warn_of_damage(self, targets: list[int]) -> None:
        if targets:
            first, last = (self._timeline.seconds(targets[end]) for end in (0, -1))
            self._warn(f"damaged or missing frames between {first:.1f} and {last:.1f} s were replaced")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads to decode in. In each of them torch uses that one only, or they would crowd each other out."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(_WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as workers:
        try:
            yield workers
        finally:
            # What a thread sets holds for it, and for threads that are started later.
            torch.set_num_threads(threads)


def check_indices(indices: Sequence[int], info: VideoFacts) -> None:
    """Raises IndexError where one of them is outside the video."""
    if any(not 0 <= index < info.frame_count for index in indices):
        raise IndexError(f"{info.path} has {info.frame_count} frames; asked for {list(indices)}")


def open_video(path: str | os.PathLike[str], limits: MediaLimits | None = None) -> VideoReader:
    """Opens a local video file, or says at once why not.

    Raises:
        InvalidSource, UnsupportedMedia, ForbiddenMedia, NoVideoStream, NoFrames, FrameTooLarge,
        DecodeTimeout.
    """
    return VideoReader(path, limits)


def probe(path: str | os.PathLike[str], limits: MediaLimits | None = None) -> VideoFacts:
    """Facts about a local video file; raises as `open_video` does."""
    with open_video(path, limits) as reader:
        return reader.info
