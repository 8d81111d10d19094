"""The vision features of one video that are known: in memory, and on disk where there is a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vm.bounded_cache import BoundedCache
from vm.feature_cache import FeatureCache, PatchKey, Shelf
from vm.model.backbone import Backbone


class KeptFeatures:
    """Features per temporal patch, (H·W, hidden) in tokens, each tower's apart.

    Args:
        backbone: whose tower in force they are of.
        memory_bytes: how much to keep in memory.
        cache: on disk; None keeps to memory.
        content_hash: the sha256 of the video file, in hexadecimal; None keeps to memory, too.

    Raises:
        ValueError: no sha256.
    """

    def __init__(
        self, backbone: Backbone, memory_bytes: int, cache: FeatureCache | None, content_hash: str | None
    ) -> None:
        self._backbone = backbone
        self._memory: BoundedCache[Tensor] = BoundedCache(memory_bytes)
        self._cache, self._content_hash = cache, content_hash
        self._shelves: dict[int, Shelf] = {}
        self._shelf()  # what it takes to look up is spent on opening, not on the first question

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._memory.nbytes

    def missing(self, keys: Sequence[PatchKey]) -> list[PatchKey]:
        """Those that are neither in memory nor, as far as can be told without reading, on disk."""
        tower, shelf = self._backbone.tower, self._shelf() or ()
        return [key for key in keys if self._memory.get((tower, key)) is None and key not in shelf]

    def get(self, keys: Sequence[PatchKey]) -> dict[PatchKey, Tensor]:
        """Those that are known, on the model's device."""
        tower, shelf = self._backbone.tower, self._shelf()
        found = {key: known for key in keys if (known := self._memory.get((tower, key))) is not None}
        read = shelf.get([key for key in keys if key not in found]) if shelf else {}
        for key, feature in read.items():
            found[key] = kept = feature.to(self._backbone.device)
            self._memory.put((tower, key), kept)
        return found

    def put(self, made: Mapping[PatchKey, Tensor], lasting: bool) -> None:
        """Keep what was made together.

        Args:
            lasting: on disk as well.
        """
        for key, feature in made.items():
            self._memory.put((self._backbone.tower, key), feature)
        if lasting and (shelf := self._shelf()):
            shelf.put(made)

    def clear(self) -> None:
        """Let go of what is in memory."""
        self._memory.clear()

    def _shelf(self) -> Shelf | None:
        """On disk, what the tower in force made."""
        if self._cache is None or self._content_hash is None:
            return None
        tower = self._backbone.tower
        if tower not in self._shelves:
            fingerprint = self._backbone.vision_fingerprint
            self._shelves[tower] = self._cache.shelf(self._content_hash, fingerprint)
        return self._shelves[tower]
