"""Files of this machine: which of them may be read, and which content they have."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources.rules import Progress, SourceRules

READ_SIZE = 1 << 20
"""Bytes hashed at a time, so that memory stays flat however long the file is."""

_LASTING = (ENOENT, EACCES, EPERM, ENOTDIR, ELOOP, ENAMETOOLONG)
"""Errors that say something of the path. Others, like those of a file server that is away, may pass."""


def path_of(uri: str) -> str:
    """The path a `file:` URI names, whatever bytes its name is made of.

    Raises:
        InvalidSource: a URI of another machine's file, or one with a bare `?` or `#`.
    """
    rest = uri.partition(":")[2]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise InvalidSource(
                f"{host!a} is not this machine: write file:/// and the path, or mount the file"
            )
        rest = slash + path
    if "?" in rest or "#" in rest:
        raise InvalidSource("a file: URI writes ? as %3F and # as %23: quote the file's name")
    try:
        return os.fsdecode(unquote_to_bytes(rest))
    except UnicodeError as error:
        raise InvalidSource("the file: URI is not valid text: quote the file's name") from error


def local_path(uri: str) -> Path:
    """The path a `file:` URI names, whatever bytes its name is made of; a plain path is one already."""
    if uri.startswith("/"):
        return Path(uri)
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def locate(path: str, rules: SourceRules) -> Path:
    """The path with all links followed, inside the roots.

    Whether anything lies outside of the roots is not told.

    Raises:
        SourceForbidden: it leads out of the roots, or there are none.
        InvalidSource: no absolute path, or one that no file can have.
    """
    if not os.path.isabs(path):
        raise InvalidSource(f"{named(path)} is not an absolute path: write it from / on")
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise InvalidSource(f"{named(path)} is not the path of a file: check it") from error
    if rules.roots is None or any(real.is_relative_to(os.path.realpath(root)) for root in rules.roots):
        return real
    raise SourceForbidden(
        f"{named(path)} is in none of the media folders: move it there, "
        "or have the operator name its folder in VIDEOMIND_MEDIA_ROOTS"
    )


def identify(path: str, rules: SourceRules, progress: Progress | None = None) -> tuple[Path, str, int]:
    """The real path of a file that may be read, its sha256, and its size in bytes.

    Who may write to the file's folder can still replace the file later: this is for folders that only
    the operator's own people and cameras write to.

    Raises:
        SourceForbidden: it lies outside of the roots.
        SourceUnavailable: it is still being written.
        InvalidSource: no such file, no permission, empty, a folder, a pipe, a device.
    """
    real = locate(path, rules)
    try:
        with _opened(real) as file:
            before = os.fstat(file.fileno())
            sha256 = _hash(file, before.st_size, progress)
            after = os.fstat(file.fileno())
    except OSError as error:
        kind = InvalidSource if error.errno in _LASTING else SourceUnavailable
        reason = error.strerror or error
        raise kind(f"cannot read {named(path)}: {reason}. Check the path and its permissions") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceUnavailable(f"{named(path)} is still being written: try again later")
    if before.st_size == 0:
        raise InvalidSource(f"{named(path)} is empty: was it copied completely?")
    return real, sha256, before.st_size


def named(path: str | Path) -> str:
    """The path as text that may be stored and shown, whatever bytes it is made of."""
    return ascii(str(path))[1:-1] if not str(path).isprintable() else str(path)


@contextmanager
def _opened(real: Path) -> Iterator[BinaryIO]:
    """The regular file at a path without links, and no other that takes its place meanwhile."""
    before = os.stat(real, follow_symlinks=False)
    if not stat.S_ISREG(before.st_mode):
        raise InvalidSource(f"{named(real)} is not a regular file: give the path of a video file")
    with open(real, "rb", opener=_without_waiting) as file:
        if not os.path.samestat(before, os.fstat(file.fileno())) or os.path.realpath(real) != str(real):
            raise InvalidSource(f"{named(real)} was replaced while it was opened: give a path that stays")
        yield file


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe that nobody writes to would wait for ever; for a regular file this changes nothing."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _hash(file: BinaryIO, size: int, progress: Progress | None) -> str:
    """Of the first `size` bytes: a file that grows as fast as it is read would have no end."""
    digest = hashlib.sha256()
    done = 0
    while chunk := file.read(min(READ_SIZE, size - done)):
        digest.update(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, size)
    return digest.hexdigest()
