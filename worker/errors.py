"""The service's own errors, a branch of the library's tree.

VideoMindError
├── CheckpointError (of the library)
│   └── WrongCheckpoint    the analysis was asked of another checkpoint than the one loaded
├── DatabaseUnusable       the database cannot be opened, or stopped answering
│   └── StaleSchema        its tables are not the ones this program works with
└── StatementRefused       an SQL statement that is wrong, too slow, or not a plain read
"""

from __future__ import annotations

from collections.abc import Iterator

from vm.errors import CheckpointError, DownloadError, VideoMindError

INTERNAL_ERROR = "internal_error"
"""The stored code of a failure nobody foresaw."""


class DatabaseUnusable(VideoMindError):
    """The database cannot be opened, or stopped answering."""

    code = "database_unusable"


class StaleSchema(DatabaseUnusable):
    """The database's tables are not the ones this program works with."""

    code = "stale_schema"


class WrongCheckpoint(CheckpointError):
    """The analysis was asked of another checkpoint than the one loaded."""

    code = "wrong_checkpoint"


class StatementRefused(VideoMindError):
    """An SQL statement that is wrong, too slow, or not a plain read."""

    code = "statement_refused"


def exit_status(code: str) -> int:
    """The command's exit status for a stored error code, by the rule that holds for errors raised."""
    if code == INTERNAL_ERROR:
        return 1
    return 4 if code in (*_codes(CheckpointError), *_codes(DownloadError)) else 3


def _codes(branch: type[VideoMindError]) -> Iterator[str]:
    yield branch.code
    for child in branch.__subclasses__():
        yield from _codes(child)
