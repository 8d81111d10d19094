"""Copies an object from an S3 store, with the credentials and endpoint of the process' environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources.connections import Deadline
from worker.sources.local import named
from worker.sources.rules import Progress, SourceRules
from worker.sources.scratch import Partial

CHUNK = 8 << 20
"""Bytes asked for at a time. So much is in memory at once, and the progress is as coarse as that."""

_LIBRARIES = ("aiobotocore", "aiohttp", "botocore")
_ADDRESS = re.compile(
    r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/([^\x00]{1,1024})", re.DOTALL | re.IGNORECASE
)


def download(
    uri: str,
    rules: SourceRules,
    partial: Partial,
    progress: Progress | None = None,
    filesystem: Any = None,
) -> None:
    """Writes the object that `s3://bucket/key` names into `partial`.

    Args:
        filesystem: an fsspec filesystem to read from instead of S3.

    Raises:
        SourceForbidden: s3fs is not installed here.
        SourceTooLarge: more bytes than the rules or the scratch space allow.
        SourceUnavailable: the store does not answer, or not in time, or the object changes meanwhile.
        InvalidSource: the URI is malformed, or there is no such object for us.
    """
    read = _Reading(_path(uri), named(uri), rules, filesystem)
    state = read.state()
    partial.reserve(state.size)
    while partial.size < state.size:
        partial.write(read.bytes(partial.size, min(partial.size + CHUNK, state.size)))
        if progress is not None:
            progress(partial.size, state.size)
    if read.state() != state:
        raise SourceUnavailable(f"{named(uri)} changed while it was read: try again later")


@dataclass(frozen=True)
class _State:
    """An object's size in bytes, and what changes when it is written again."""

    size: int
    marks: tuple[Any, ...]


class _Reading:
    """One object of a store, and the time there is to read it."""

    def __init__(self, path: str, shown: str, rules: SourceRules, filesystem: Any) -> None:
        self._path = path
        self._shown = shown
        self._store = _s3(rules) if filesystem is None else filesystem
        self._deadline = Deadline.after(rules.max_seconds)

    def state(self) -> _State:
        info = self._ask(self._store.info)
        if info["type"] != "file":
            raise InvalidSource(f"{self._shown} is a folder: give the address of an object")
        return _State(int(info["size"]), tuple(info.get(key) for key in ("ETag", "LastModified", "created")))

    def bytes(self, start: int, end: int) -> bytes:
        chunk: bytes = self._ask(self._store.cat_file, start=start, end=end)
        if len(chunk) != end - start:
            raise SourceUnavailable(f"{self._shown} became shorter while it was read: try again later")
        return chunk

    def _ask(self, method: Callable[..., Any], **how: Any) -> Any:
        """Calls the store. fsspec ends a call after its `timeout`, even if the store drips."""
        with _failures_of(self._shown, self._deadline):
            return method(self._path, timeout=self._deadline.within(None), **how)


def _path(uri: str) -> str:
    """The store's name for the object. Keys are taken as they are, without any unquoting."""
    found = _ADDRESS.fullmatch(uri)
    if "?versionId=" in uri:
        raise InvalidSource("one version of an object cannot be asked for: give the address without it")
    if found is None:
        raise InvalidSource("this is no address of an object: write it like s3://bucket/folder/video.mp4")
    return f"{found[1]}/{found[2]}"


def _s3(rules: SourceRules) -> Any:
    import fsspec  # type: ignore[import-untyped]

    limits = {"connect_timeout": rules.stall_seconds, "read_timeout": rules.stall_seconds}
    try:
        return fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=limits)
    except ImportError as error:
        raise SourceForbidden(
            "s3: sources need s3fs: install videomind-worker[s3], or give a file or an http(s): URL"
        ) from error


@contextmanager
def _failures_of(shown: str, deadline: Deadline) -> Iterator[None]:
    """What goes wrong in fsspec, s3fs and what they stand on, as our errors.

    Their errors have no common base, so the others are known by where they come from.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InvalidSource(f"there is no object {shown}: check bucket and key") from error
    except PermissionError as error:
        raise InvalidSource(
            f"{shown} may not be read: check the worker's credentials for the bucket"
        ) from error
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        deadline.within(None)
        raise SourceUnavailable(f"{shown} cannot be read: {type(error).__name__}. Try again later") from error
