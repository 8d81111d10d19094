"""PostgreSQL on disk: as its makers ship it, or with the tests' short cuts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers

_AS_ADVISED = ("shared_buffers=4GB",)
_SHIPPED = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "autovacuum=on")


class _Configured(servers.PostgreSQL):
    """With settings of its own."""

    settings: tuple[str, ...]

    def start(self) -> None:
        for setting in self.settings:  # of two the later one holds
            self._command = [*self._command, "-c", setting]
        super().start()


class Durable(_Configured):
    """What was committed is there after a power cut."""

    settings = _SHIPPED


class Roomy(_Configured):
    """With as much memory for its pages as its makers advise where it has a machine to itself."""

    settings = _AS_ADVISED


@contextmanager
def postgresql_on_disk(kind: type[servers.PostgreSQL] = servers.PostgreSQL) -> Iterator[servers.PostgreSQL]:
    """A server whose files are too large for memory, or too precious. They are gone in the end."""
    with disk_folder() as folder:
        folder.chmod(0o755)  # its user is another one
        server = kind(folder)
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def disk_folder() -> Iterator[Path]:
    """A folder for gigabytes, gone in the end: $TMPDIR decides where."""
    folder = Path(tempfile.mkdtemp(prefix="videomind-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
