"""Frames decoded before anybody asks for them, and handed out when somebody does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vm.bounded_cache import BoundedCache
from vm.errors import VideoError
from vm.video.reader import Frames, VideoReader


@dataclass(frozen=True)
class _Kept:
    pixels: Tensor
    timestamp: float

    @property
    def nbytes(self) -> int:
        return self.pixels.nbytes


class ReadAhead:
    """Reads like the reader it is given, whatever was prefetched: the same frames, times and warnings.

    Args:
        reader: the open video.
        room: bytes of frames to keep at most; the least recently used go first.
    """

    def __init__(self, reader: VideoReader, room: int) -> None:
        self._reader = reader
        self._room = room
        self._kept: BoundedCache[_Kept] = BoundedCache(room)

    def prefetch(self, indices: Sequence[int], size: tuple[int, int]) -> None:
        """Decodes those frames that are not kept yet, as many of the first as there is room for.

        Nothing is kept, and nothing said, of what turns out damaged: a `read` will.
        """
        fitting = list(dict.fromkeys(indices))[: self._room // (3 * size[0] * size[1])]
        missing = [index for index in fitting if not self._kept.get((index, size))]
        frames = self._undamaged(missing, size)
        if frames is None:
            return
        for index, pixels, timestamp in zip(missing, frames.pixels, frames.timestamps, strict=True):
            # Cloned, since a slice would keep all the others alive.
            self._kept.put((index, size), _Kept(pixels.clone(), timestamp))

    def read(self, indices: Sequence[int], size: tuple[int, int]) -> Frames:
        """As `VideoReader.read`."""
        found = {index: kept for index in indices if (kept := self._kept.get((index, size)))}
        missing = [index for index in dict.fromkeys(indices) if index not in found]
        rest = self._undamaged(missing, size) if found else None
        # What stands in for a damaged frame depends on the others that are read with it.
        if rest is None:
            return self._reader.read(indices, size)
        for index, pixels, timestamp in zip(missing, rest.pixels, rest.timestamps, strict=True):
            found[index] = _Kept(pixels, timestamp)
        pixels = torch.stack([found[index].pixels for index in indices])
        return Frames(pixels, tuple(found[index].timestamp for index in indices))

    def _undamaged(self, indices: Sequence[int], size: tuple[int, int]) -> Frames | None:
        """The frames; None, and no warning, where one of them did not decode."""
        said, self._reader.warnings = self._reader.warnings, []
        try:
            frames = self._reader.read(indices, size)
            return None if self._reader.warnings else frames
        except VideoError:
            return None
        finally:
            self._reader.warnings = said
