"""Where a video is and which one it is. Knows nothing of what is in it."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from vm.errors import InvalidSource

READ_SIZE = 1 << 20
"""Bytes hashed at a time, so that memory stays flat however long the file is."""


@dataclass(frozen=True)
class Source:
    """A video file: its `file:` URI and the sha256 of its content, which is its identity."""

    uri: str
    sha256: str


def identify(path: Path) -> Source:
    """The file's absolute URI and content hash.

    Raises:
        InvalidSource: no such file, no permission, a folder, a pipe, a device, or an empty file.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidSource(f"{path} is not a regular file: give the path of a video file")
            if status.st_size == 0:
                raise InvalidSource(f"{path} is empty: was it copied completely?")
            digest = hashlib.sha256()
            while chunk := file.read(READ_SIZE):
                digest.update(chunk)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidSource(f"cannot read {path}: {reason}. Check the path and its permissions") from error
    return Source(path.resolve().as_uri(), digest.hexdigest())


def local_path(uri: str) -> Path:
    """The path a `file:` URI names, whatever bytes its name is made of; a plain path is one already."""
    if uri.startswith("/"):
        return Path(uri)
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe that nobody writes to would wait for ever; for a regular file this changes nothing."""
    return os.open(path, flags | os.O_NONBLOCK)
