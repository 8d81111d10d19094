"""Vision features on disk, so that a video that was looked at before is neither decoded nor encoded again.

    <sha256 of the video>/<vision>-<checksum>.safetensors    features of patches that were made together
    <sha256 of the video>/<vision>-<random>.partial          the same while it is written

`vision` is the beginning of the tower's fingerprint. Each patch is a tensor, named after the frames and the
size it was made of, in the dtype it was made in. A file is written once, under another name until it is
whole, and never changed; its name says what its content must be. Nothing is locked: whoever finds a file
gone or damaged makes the features anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

log = logging.getLogger(__name__)

PatchKey: TypeAlias = tuple[int, int, int, int]
"""What a temporal patch's features depend on: its two frame numbers, height and width in pixels."""

# To be raised when the same frames, or the same tower, come to give other features.
_LAYOUT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[0-9a-f]{32}-([0-9a-f]{32}\.safetensors|[0-9a-f]{16}\.partial)")
_NAME_DIGITS = 32
_LONGEST_HEADER = 16 << 20
# Going through all files takes long where there are many, so it is done once in so many bytes written, and
# makes room enough for eight processes that do the same.
_BETWEEN_LOOKS = 1 / 64
_FILLED = 7 / 8
# So old, a partial file has nobody who still writes it, and an empty folder nobody who is about to.
_ABANDONED_SECONDS = 3600.0


class FeatureCache:
    """A folder of vision features, bounded in bytes, for any number of processes.

    Nothing that is wrong with the folder or its files is an error: it costs what was kept, and a line in the
    log. To forget a video, delete the folder with its sha256.

    Args:
        folder: on a local disk; made when first needed.
        max_bytes: what the files may take together. The least recently used go first.
    """

    def __init__(self, folder: Path, max_bytes: int = 20 * 10**9) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._until_look = 0
        self._complained = False

    def shelf(self, content_hash: str, fingerprint: str) -> Shelf:
        """What one vision tower made of one video.

        Args:
            content_hash: the sha256 of the video file, in hexadecimal.
            fingerprint: `Backbone.vision_fingerprint`.

        Raises:
            ValueError: no sha256.
        """
        if not (_SHA256.fullmatch(content_hash) and _SHA256.fullmatch(fingerprint)):
            raise ValueError(f"not a sha256: {content_hash!a} or {fingerprint!a}")
        return Shelf(self, content_hash, fingerprint)

    def files(self, video: Path) -> list[Path]:
        """A video's files, in no order."""
        with self._bearing(), suppress(FileNotFoundError):
            return [video / file.name for file in _files_in(video) if file.name.endswith(".safetensors")]
        return []

    def header(self, path: Path) -> bytes | None:
        """The JSON at a file's beginning, not checked; None where it cannot be had.

        It is read, not mapped into memory: a mapped file that breaks ends the process.
        """
        with self._bearing(), suppress(FileNotFoundError), path.open("rb") as file:
            return file.read(min(int.from_bytes(file.read(8), "little"), _LONGEST_HEADER))
        return None

    def read(self, path: Path) -> bytes | None:
        """All of a file, not checked, which counts as a use; None where it cannot be had."""
        with self._bearing(), suppress(FileNotFoundError), path.open("rb") as file:
            with suppress(OSError):  # where the folder may only be read
                os.utime(file.fileno())
            return file.read()
        return None

    def write(self, path: Path, content: bytes) -> bool:
        """A new file, unless there is no room for it; whether it is there now."""
        limit = int(self.max_bytes * _FILLED) - len(content)
        if limit < 0:
            return False
        draft = path.with_name(f"{path.name[:_NAME_DIGITS]}-{secrets.token_hex(8)}.partial")
        with self._bearing():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(content), limit)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                draft.write_bytes(content)
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)
            return True
        return False

    def drop(self, path: Path) -> None:
        """A damaged file goes."""
        log.warning("%s is damaged; its features are made anew", path)
        with self._bearing():
            path.unlink(missing_ok=True)

    def _make_room(self, size: int, limit: int) -> None:
        """Removes what was left behind, and files until the rest takes no more than `limit`."""
        if size <= self._until_look:
            self._until_look -= size
            return
        self._until_look = int(self.max_bytes * _BETWEEN_LOOKS)
        kept = sorted(self._all_files(time.time() - _ABANDONED_SECONDS), key=lambda file: file.used)
        total = sum(file.size for file in kept)
        for file in kept:
            if total <= limit:
                return
            Path(file.path).unlink(missing_ok=True)
            total -= file.size

    def _all_files(self, abandoned: float) -> Iterator[_File]:
        for video in os.scandir(self.folder):
            if not _SHA256.fullmatch(video.name):
                continue  # not ours
            with suppress(FileNotFoundError, NotADirectoryError):
                yield from _without_abandoned(_files_in(Path(video.path)), abandoned)
                if video.stat().st_mtime < abandoned:
                    with suppress(OSError):  # where it is not empty
                        os.rmdir(video.path)

    @contextmanager
    def _bearing(self) -> Iterator[None]:
        """A disk that is full, broken or not ours costs what would be kept, and no more."""
        try:
            yield
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("vision features cannot be kept in %s: %s", self.folder, error)


class Shelf:
    """The features that one vision tower made of one video, as far as they are kept."""

    def __init__(self, cache: FeatureCache, content_hash: str, fingerprint: str) -> None:
        self._cache = cache
        self._folder = cache.folder / content_hash
        self._tower = fingerprint[:_NAME_DIGITS]
        self._owner = f"{_LAYOUT} {content_hash} {fingerprint}".encode()
        self._places: dict[str, Path] = {}
        for path in cache.files(self._folder):
            if path.name.startswith(self._tower):
                self._places |= dict.fromkeys(self._names(path), path)

    def __contains__(self, key: PatchKey) -> bool:
        """Whether there is a file with it. Only `get` tells whether that can be used."""
        return _name(key) in self._places

    def get(self, keys: Iterable[PatchKey]) -> dict[PatchKey, Tensor]:
        """Those that are kept, on the CPU."""
        wanted = {_name(key): key for key in keys}
        found: dict[PatchKey, Tensor] = {}
        for path in dict.fromkeys(self._places[name] for name in wanted if name in self._places):
            found |= {wanted[name]: tensor for name, tensor in self._load(path).items() if name in wanted}
        return found

    def put(self, features: Mapping[PatchKey, Tensor]) -> None:
        """Keep what was made together, as one file."""
        tensors = {_name(key): feature.cpu().contiguous() for key, feature in features.items()}
        content = save(tensors)
        path = self._folder / self._file_name(content)
        if self._cache.write(path, content):
            self._places |= dict.fromkeys(tensors, path)

    def _load(self, path: Path) -> dict[str, Tensor]:
        """A file's tensors; none where it has gone or is damaged, and then it is no longer looked for."""
        content = self._cache.read(path)
        if content is not None:
            if path.name == self._file_name(content):
                with suppress(SafetensorError):
                    return load(content)
            self._cache.drop(path)
        self._places = {name: place for name, place in self._places.items() if place != path}
        return {}

    def _names(self, path: Path) -> list[str]:
        """Of the tensors in a file."""
        header = self._cache.header(path)
        if header is None:
            return []
        try:
            return list(json.loads(header).keys())
        except (ValueError, AttributeError, RecursionError):
            self._cache.drop(path)
            return []

    def _file_name(self, content: bytes) -> str:
        digest = hashlib.sha256(self._owner)
        digest.update(content)
        return f"{self._tower}-{digest.hexdigest()[:_NAME_DIGITS]}.safetensors"


def hash_content(path: str | Path, began: float) -> str | None:
    """The sha256 of a video file, in hexadecimal.

    Args:
        began: when it began to be opened, in seconds since 1970. Of a file that was written to since then, or
            is gone, nobody knows which content is shown, and this is None.
    """
    with suppress(OSError), open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        return found if os.fstat(file.fileno()).st_mtime < began else None
    return None


class _File(NamedTuple):
    """`size` in bytes, `used` last in seconds since 1970."""

    path: str
    name: str
    size: int
    used: float


def _files_in(folder: Path) -> Iterator[_File]:
    """Those with names as we give them; whatever else lies there is not ours to touch."""
    for entry in os.scandir(folder):
        if _FILE.fullmatch(entry.name):
            with suppress(FileNotFoundError):  # it may go at any time
                status = entry.stat(follow_symlinks=False)
                yield _File(entry.path, entry.name, status.st_size, status.st_mtime)


def _without_abandoned(files: Iterable[_File], abandoned: float) -> Iterator[_File]:
    """Removes partial files that were last written to before `abandoned`."""
    for file in files:
        if file.name.endswith(".partial") and file.used < abandoned:
            Path(file.path).unlink(missing_ok=True)
        else:
            yield file


def _name(key: PatchKey) -> str:
    first, second, height, width = key
    return f"{first}-{second}-{height}x{width}"
