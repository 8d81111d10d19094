"""The service's own errors, a branch of the library's tree, and which of all errors may pass.

VideoMindError
├── VideoError (of the library)
│   ├── SourceUnavailable    the source does not answer just now
│   ├── SourceForbidden      an address, folder or kind of source that is not allowed
│   ├── SourceTooLarge       more bytes than the limit allows
│   └── Quarantined          the video has killed its process too often
├── InvalidSettings          an environment variable's value cannot be used
├── InvalidRule              a rule, limit, schedule or standing question that cannot be
├── UnknownJob               no submission, or no analysis, has this id
├── InvalidMessage           a message's arguments are not as the contract says
├── RunRefused               a re-indexing run is not in a state for what is asked
├── Cancelled                somebody asked for the analysis to end
├── LeaseLost                another process has taken the work over
├── LostWorker               the process that worked on it died, again and again
├── DatabaseUnusable         the database cannot be opened, or stopped answering
│   └── StaleSchema          its tables are not the ones this program works with
├── BrokerUnusable           the broker cannot be reached
├── Unhealthy                a worker, database or broker is not as it should be
└── StatementRefused         an SQL statement that is wrong, too slow, or not a plain read
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from vm.errors import CheckpointError, DecoderCrashed, DownloadError, OutOfMemory, VideoError, VideoMindError

INTERNAL_ERROR = "internal_error"
"""The stored code of a failure nobody foresaw."""


class SourceUnavailable(VideoError):
    """The source does not answer just now."""

    code = "source_unavailable"


class SourceForbidden(VideoError):
    """An address, a folder or a kind of source that is not allowed."""

    code = "source_forbidden"


class SourceTooLarge(VideoError):
    """The source has more bytes than the limit allows."""

    code = "source_too_large"


class Quarantined(VideoError):
    """The video has killed its process too often, and is not touched again."""

    code = "quarantined"


class InvalidSettings(VideoMindError):
    """An environment variable's value cannot be used."""

    code = "invalid_settings"


class InvalidRule(VideoMindError):
    """A rule, a limit, a schedule or a standing question says what cannot be."""

    code = "invalid_rule"


class RunRefused(VideoMindError):
    """A re-indexing run is not there, or not in a state for what is asked of it."""

    code = "run_refused"


class UnknownJob(VideoMindError):
    """No submission, or no analysis, has this id."""

    code = "unknown_job"


class InvalidMessage(VideoMindError):
    """A message's arguments are not as the contract says."""

    code = "invalid_message"


class Cancelled(VideoMindError):
    """Somebody asked for the analysis to end."""

    code = "cancelled"


class LeaseLost(VideoMindError):
    """Another process has taken the work over."""

    code = "lease_lost"


class LostWorker(VideoMindError):
    """The process that worked on it died, again and again."""

    code = "lost_worker"


class DatabaseUnusable(VideoMindError):
    """The database cannot be opened, or stopped answering."""

    code = "database_unusable"


class StaleSchema(DatabaseUnusable):
    """The database's tables are not the ones this program works with."""

    code = "stale_schema"


class BrokerUnusable(VideoMindError):
    """The broker cannot be reached."""

    code = "broker_unusable"


class Unhealthy(VideoMindError):
    """A worker, database or broker is not as it should be."""

    code = "unhealthy"


class StatementRefused(VideoMindError):
    """An SQL statement that is wrong, too slow, or not a plain read."""

    code = "statement_refused"


_MAY_PASS = (SourceUnavailable, DecoderCrashed, DatabaseUnusable, OutOfMemory, LostWorker, DownloadError)
_FIRST_DELAY, _LONGEST_DELAY = timedelta(seconds=5), timedelta(minutes=10)


def is_retryable(error: Exception) -> bool:
    """Whether another try may do better: network, database, memory, a lost process, the unforeseen.

    Bad media, bad arguments and bad checkpoints stay bad.
    """
    return isinstance(error, _MAY_PASS) or not isinstance(error, VideoMindError)


def retry_delay(attempts: int) -> timedelta:
    """How long to wait after so many attempts (from 1): four times longer each time."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 4 ** min(attempts - 1, 8))


def exit_status(code: str) -> int:
    """The command's exit status for a stored error code, by the rule that holds for errors raised."""
    if code == INTERNAL_ERROR:
        return 1
    return 4 if code in (*_codes(CheckpointError), *_codes(DownloadError)) else 3


def _codes(branch: type[VideoMindError]) -> Iterator[str]:
    yield branch.code
    for child in branch.__subclasses__():
        yield from _codes(child)
