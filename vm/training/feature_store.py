"""Vision features of a training run: computed once by the frozen tower, kept in memory and on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vm.bounded_cache import BoundedCache

_SUFFIX = ".safetensors"


class FeatureStore:
    """What was used longest ago goes first, in memory and on disk each.

    Several processes may share a folder: files appear whole, and one that has gone is made anew.

    Args:
        folder: where the files are; made if need be. None keeps to memory.
        memory_bytes, disk_bytes: how much to keep.
    """

    def __init__(self, folder: Path | None, memory_bytes: int, disk_bytes: int) -> None:
        self._memory: BoundedCache[Tensor] = BoundedCache(memory_bytes)
        self._folder = folder
        self._limit = disk_bytes
        self._sizes: dict[Path, int] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            oldest_first = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
            self._sizes = {path: path.stat().st_size for path in oldest_first}

    def get(self, key: str) -> Tensor | None:
        found = self._memory.get(key)
        if found is None and (path := self._path(key)) and (found := _read(path)) is not None:
            self._memory.put(key, found)
            self._used(path)
        return found

    def put(self, key: str, features: Tensor) -> None:
        """Keep them; a disk that is full keeps nothing more, and nothing breaks."""
        self._memory.put(key, features)
        path = self._path(key)
        if path is None or features.nbytes > self._limit:
            return
        partial = path.with_suffix(f".{os.getpid()}")
        try:
            save_file({"features": features.contiguous()}, partial)
            partial.replace(path)
        except (OSError, SafetensorError):
            partial.unlink(missing_ok=True)
            return
        self._used(path)
        while sum(self._sizes.values()) > self._limit:
            self._drop(next(iter(self._sizes)))

    def _path(self, key: str) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _used(self, path: Path) -> None:
        self._sizes.pop(path, None)
        try:
            os.utime(path)
            self._sizes[path] = path.stat().st_size
        except OSError:
            pass  # another process has dropped it

    def _drop(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        del self._sizes[path]


def _read(path: Path) -> Tensor | None:
    try:
        return load_file(path)["features"]
    except (OSError, SafetensorError, KeyError):
        return None
