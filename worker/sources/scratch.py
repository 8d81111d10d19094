"""Room for downloaded files: bounded, shared by processes, and clean again after a crash.

    lock               held while somebody makes room, adds or removes a file
    partial/<random>   being written; locked by the process that writes it
    whole/<sha256>     complete; locked, shared, by everyone who uses it

The kernel lets a lock go when its process ends, however it ends. So a partial file that nobody locks was
left behind by a crash, and a whole one that nobody locks may be removed when its room is needed. A
partial file is given its size before its bytes, so that every process sees what is spoken for.

The folder belongs on a local disk. No name in it comes from outside.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from worker.errors import SourceTooLarge, SourceUnavailable

STEP = 16 << 20
"""Bytes of room a partial file of unknown size asks for at a time."""
LOCK_SECONDS = 30.0
"""The longest wait for the folder's lock, which is never held for long: then its holder has stopped."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Scratch:
    """Whole and partial files in one folder, together no larger than `max_bytes`.

    Raises:
        SourceUnavailable: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._whole = folder / "whole"
        self._partial = folder / "partial"
        self._make_folders()
        with self._locked():
            self._make_room(0)

    def _make_folders(self) -> None:
        """If they are not there, or no longer."""
        with _as_unavailable(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._whole.mkdir(mode=0o700, exist_ok=True)
            self._partial.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def hold(self, sha256: str) -> Iterator[Path | None]:
        """The whole file with this content, which stays until the block ends; None: there is none."""
        with _as_unavailable(self.folder):
            file = self._open_shared(sha256)
        if file is None:
            yield None
            return
        with file:
            yield self._whole / sha256

    @contextmanager
    def partial(self, limit: int) -> Iterator[Partial]:
        """A new file to write to, of at most `limit` bytes; gone after the block, unless kept."""
        self._make_folders()
        with self._locked():
            path = self._partial / secrets.token_hex(16)
            file = _create(path)
        try:
            with file:
                yield Partial(self, path, file, limit)
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def keep(self, partial: Partial) -> Iterator[Path]:
        """Makes a partial file, now written to its end, a whole one, and holds it until the block ends.

        Enter this inside the partial file's own block; that may end first.

        Raises:
            SourceUnavailable: the disk is full or broken.
        """
        sha256 = partial.complete()
        target = self._whole / sha256
        with self._locked():
            file = self._open_shared(sha256)
            if file is None:
                os.rename(partial.path, target)
                file = _shared(target)
        with file:
            yield target

    def reserve(self, partial: Partial, size: int) -> None:
        """Grows a partial file to a size, and removes whole files not used lately to make room for it.

        Raises:
            SourceUnavailable: the room is taken by files in use.
        """
        with self._locked():
            self._make_room(size - partial.path.stat().st_size)
            os.truncate(partial.path, size)

    def _make_room(self, extra: int) -> None:
        """Removes what crashed processes left, then whole files, the least recently used first.

        Raises:
            SourceUnavailable: `extra` bytes do not fit beside what is in use.
        """
        for path, _, _ in _sizes(self._partial):
            _remove_unlocked(path)
        whole = sorted(_sizes(self._whole), key=lambda entry: entry[2])
        used = sum(size for _, size, _ in (*whole, *_sizes(self._partial)))
        for path, size, _ in whole:
            if used + extra <= self.max_bytes:
                return
            if _remove_unlocked(path):
                used -= size
        if extra > 0 and used + extra > self.max_bytes:
            raise SourceUnavailable(
                f"the scratch space of {self.max_bytes} bytes is full of files in use: "
                "try again later, or have the operator give it more"
            )

    def _open_shared(self, sha256: str) -> FileIO | None:
        """The whole file, locked and marked as just used."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a sha256: {sha256!a}")
        try:
            file = _shared(self._whole / sha256)
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_nlink == 0:  # removed between opening and locking
            file.close()
            return None
        os.utime(file.fileno())
        return file

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with the folder, among all threads and processes."""
        with _as_unavailable(self.folder), open(self.folder / "lock", "wb", opener=_private) as file:
            _lock_patiently(file, self.folder)
            yield


class Partial:
    """A file of the scratch space while it is written, and the hash of what has been written so far."""

    def __init__(self, scratch: Scratch, path: Path, file: FileIO, limit: int) -> None:
        self.path = path
        self.size = 0
        self._scratch = scratch
        self._file = file
        self._limit = limit
        self._reserved = 0
        self._digest = hashlib.sha256()

    def reserve(self, size: int) -> None:
        """Claims room for a file of so many bytes in all.

        Raises:
            SourceTooLarge: more than the limit, or than the whole scratch space has.
            SourceUnavailable: the room is taken by files in use.
        """
        limit = min(self._limit, self._scratch.max_bytes)
        if size > limit:
            raise SourceTooLarge(
                f"the source has more than {limit} bytes: give a shorter video, "
                "or have the operator raise the limit on sources, or on the scratch space"
            )
        if size > self._reserved:
            self._scratch.reserve(self, size)
            self._reserved = size

    def write(self, chunk: bytes) -> None:
        """Appends bytes; raises as `reserve`."""
        needed = self.size + len(chunk)
        if needed > self._reserved:
            self.reserve(max(needed, min(needed + STEP, self._limit, self._scratch.max_bytes)))
        with _as_unavailable(self._scratch.folder):
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]
        self._digest.update(chunk)
        self.size = needed

    def restart(self) -> None:
        """Forgets what has been written. The room stays claimed."""
        with _as_unavailable(self._scratch.folder):
            self._file.seek(0)
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what has been written so far."""
        return self._digest.hexdigest()

    def complete(self) -> str:
        """Puts the bytes on the disk, gives the rest of the room back, and returns the sha256.

        After a power cut, no file may stand there under its hash but without its bytes. Others may use
        the file from now on, so the lock is a shared one.
        """
        with _as_unavailable(self._scratch.folder):
            self._file.truncate(self.size)
            os.fsync(self._file.fileno())
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return self.sha256


def _create(path: Path) -> FileIO:
    """A new file, locked. Unbuffered, so that closing it never has to write."""
    file = FileIO(path, "xb", opener=_private)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _shared(path: Path) -> FileIO:
    """An existing file, locked together with others."""
    file = FileIO(path, "rb", opener=_private)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _lock_patiently(file: BinaryIO, folder: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise SourceUnavailable(f"another process keeps {folder} locked: is it stopped?") from None
            time.sleep(0.01)


def _remove_unlocked(path: Path) -> bool:
    """Removes a file nobody uses; false: somebody does."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
    return True


def _sizes(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Each file's path, size in bytes, and when it was last used."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            yield path, status.st_size, status.st_mtime_ns


@contextmanager
def _as_unavailable(folder: Path) -> Iterator[None]:
    """A disk that is full, broken or not ours is the operator's to repair, and then the source is fine."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise SourceUnavailable(
            f"cannot use the scratch space {folder}: {reason}. Make room there"
        ) from error
