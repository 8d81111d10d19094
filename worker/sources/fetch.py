"""A source's URI → a file that can be read, and which content it has."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vm.errors import InvalidSource
from worker.errors import SourceForbidden
from worker.sources import download, local, s3
from worker.sources.rules import Progress, SourceRules
from worker.sources.scratch import Partial, Scratch

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Fetched:
    """A file at hand.

    Attributes:
        path: where it is; in scratch space, it is only there while `fetch`'s block lasts.
        sha256: of its content, which is its identity.
        size_bytes: its size.
        name: what the source calls it: the last part of the path or URL.
    """

    path: Path
    sha256: str
    size_bytes: int
    name: str


@contextmanager
def fetch(
    uri: str,
    rules: SourceRules,
    scratch: Scratch,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Fetched]:
    """The file that a `file:`, `http(s):` or `s3:` URI, or an absolute path, names.

    Local files are read where they are. Everything else is copied to scratch space, unless a file with
    the expected content is there already.

    Args:
        sha256: the content that is expected, if it is known.
        progress: is told how many bytes have been read. What it raises ends the work.

    Raises:
        SourceForbidden: an address, a folder or a kind of source that is not allowed.
        SourceTooLarge: more bytes than the rules or the scratch space allow.
        SourceUnavailable: the source does not answer, is still being written, or there is no room.
        InvalidSource: no such source, an empty one, or other content than expected.
    """
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise InvalidSource("the expected sha256 is not 64 hexadecimal digits: write it in lower case")
    scheme = _scheme(uri)
    if scheme == "file":
        yield _local(uri, rules, sha256, progress)
        return
    with ExitStack() as held:
        path = None if sha256 is None else held.enter_context(scratch.hold(sha256))
        if path is None:
            with scratch.partial(rules.max_bytes) as partial:
                source = s3 if scheme == "s3" else download
                source.download(uri, rules, partial, progress)
                _check(partial, sha256)
                path = held.enter_context(scratch.keep(partial))
        yield Fetched(path, path.name, path.stat().st_size, _name(uri, scheme))


def _scheme(uri: str) -> str:
    """`file`, `http`, `https` or `s3`."""
    if uri.startswith("/"):
        return "file"
    found = _SCHEME.match(uri)
    if found is None:
        raise InvalidSource("the source is neither a URI nor an absolute path: write the path from / on")
    scheme = found[0].lower()
    if scheme not in ("file", "http", "https", "s3"):
        raise SourceForbidden(f"{scheme}: sources are not read: give a file:, http:, https: or s3: URI")
    return scheme


def _local(uri: str, rules: SourceRules, expected: str | None, progress: Progress | None) -> Fetched:
    path = uri if uri.startswith("/") else local.path_of(uri)
    real, sha256, size = local.identify(path, rules, progress)
    if expected not in (None, sha256):
        raise InvalidSource(f"{local.named(path)} has other content than it had: submit it again")
    return Fetched(real, sha256, size, local.named(posixpath.basename(path)))


def _check(partial: Partial, expected: str | None) -> None:
    if partial.size == 0:
        raise InvalidSource("the source is empty: was it uploaded completely?")
    if expected not in (None, partial.sha256):
        raise InvalidSource("the source has other content than it had: submit it again")


def _name(uri: str, scheme: str) -> str:
    """The last part of the path. It is shown and searched for a date, and never used as a file's name."""
    path = uri if scheme == "s3" else unquote(re.split(r"[?#]", uri, maxsplit=1)[0])
    return local.named(posixpath.basename(path.partition("://")[2].partition("/")[2]))[:_LONGEST_NAME]
