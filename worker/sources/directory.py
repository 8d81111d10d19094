"""Which files of a folder are finished, seen by looking again and again.

A file's own times do not tell: a copy may set an old date, and a file server's clock may be wrong. So a
file is finished once it has looked the same for a while by our own clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from stat import S_ISREG

from vm.errors import InvalidSource
from worker.errors import SourceForbidden
from worker.sources.local import locate, named
from worker.sources.rules import SourceRules

_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
"""Endings under which programs write what they rename when it is done."""


Looks = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sighting:
    """How a file looked, and since when it looks like that.

    Attributes:
        looks: what changes when the file is written or replaced: its inode, size, when it was written,
            and when its entry was changed.
        since: on the monotonic clock, in seconds.
        told: it has been reported as finished.
    """

    looks: Looks
    since: float
    told: bool = False


@dataclass(frozen=True)
class Scan:
    """What one look at a folder gave.

    Attributes:
        finished: files that are finished and were not reported before, by name.
        seen: what the next scan needs to know. It lives as long as the process.
    """

    finished: tuple[Path, ...]
    seen: Mapping[Path, Sighting]


def finished_files(
    folder: Path,
    pattern: str,
    rules: SourceRules,
    settle_seconds: float,
    seen: Mapping[Path, Sighting],
    recursive: bool = False,
    limit: int = 1000,
    clock: Callable[[], float] = time.monotonic,
) -> Scan:
    """Looks at a folder once more. The first look only takes notes.

    Hidden and temporary names, empty files, and links out of the roots are passed over. A file that
    changes after it was reported is reported again.

    Args:
        pattern: of the file's name, like `*.mp4`, whatever the case.
        settle_seconds: how long a file must look the same.
        seen: `Scan.seen` of the last look, or nothing.
        limit: the most files to report at once. The others come with the next scans.

    Raises:
        SourceForbidden: the folder lies outside of the roots.
        InvalidSource: there is no such folder.
    """
    root = _readable(folder, rules)
    now = clock()
    sightings = {
        path: _sighting(looks, seen.get(path), now)
        for path, looks in sorted(_looks(root, pattern, rules, recursive))
    }
    settled = (
        path
        for path, sighting in sightings.items()
        if not sighting.told and path in seen and now - sighting.since >= settle_seconds
    )
    finished = tuple(islice(settled, limit))
    return Scan(finished, sightings | {path: replace(sightings[path], told=True) for path in finished})


def _readable(folder: Path, rules: SourceRules) -> Path:
    root = locate(os.path.abspath(folder), rules)
    try:
        os.scandir(root).close()
    except OSError as error:
        raise InvalidSource(f"cannot list {named(folder)}: {error.strerror}. Check the folder") from error
    return root


def _sighting(looks: Looks, last: Sighting | None, now: float) -> Sighting:
    """The last sighting, if the file still looks like that.

    A file that was reported may be linked or get other permissions, as backups do to whole folders:
    that changes when its entry was changed, and nothing else.
    """
    if last is not None and (last.looks == looks or (last.told and last.looks[:-1] == looks[:-1])):
        return last
    return Sighting(looks, now)


def _looks(root: Path, pattern: str, rules: SourceRules, recursive: bool) -> Iterator[tuple[Path, Looks]]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if _is_wanted(name.lower(), pattern.lower()) and _is_inside(path, rules):
                yield from _look(path)


def _is_wanted(name: str, pattern: str) -> bool:
    passed_over = name.startswith((".", "~")) or name.endswith(_UNFINISHED)
    return not passed_over and fnmatchcase(name, pattern)


def _is_inside(path: Path, rules: SourceRules) -> bool:
    """Only a link can lead out: the folders above it are known."""
    try:
        if path.is_symlink():
            locate(str(path), rules)
    except (SourceForbidden, InvalidSource):
        return False
    return True


def _look(path: Path) -> Iterator[tuple[Path, Looks]]:
    """The file and its looks, unless it is gone again, empty, or no file at all."""
    try:
        status = path.stat()
    except OSError:
        return
    if S_ISREG(status.st_mode) and status.st_size > 0:
        yield path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
