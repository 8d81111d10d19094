"""What producers and operators ask for, whoever carries it: a Celery task or the command line."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vm.errors import VideoMindError
from worker import broker, contract
from worker.analysis import Analyst
from worker.celery_app import ANALYSE, FETCH
from worker.errors import InvalidMessage
from worker.ingest import Registrar
from worker.jobs import Accepted, Submission
from worker.settings import Settings
from worker.sources.directory import Scan, Sighting, finished_files
from worker.sources.rules import SourceRules
from worker.store import Store

_LONGEST_KEY = 64  # characters
_KEPT_ARGUMENTS = 4000  # characters of what could not be understood
MOST_FILES = 1_000_000
"""Files of a folder that one scan submits."""
SETTLE_SECONDS = 5.0
"""How long a file must not have changed to count as finished."""


def submit(store: Store, key: str, arguments: Mapping[str, Any]) -> Accepted | None:
    """Keeps a submission, and wakes somebody to fetch its video. None where it was not understood.

    Args:
        key: what it is called if the arguments do not say; what is not understood is kept under it.
    """
    try:
        submission = contract.parse_submit(key, arguments)
    except InvalidMessage as error:
        _reject(store, key, arguments, error)
        return None
    return add(store, submission)


def add(store: Store, submission: Submission) -> Accepted:
    """Keeps a submission that was understood, and wakes somebody to fetch its video."""
    accepted = store.submissions.add(submission)
    broker.wake(FETCH)
    return accepted


def take_in(registrar: Registrar) -> None:
    """Takes in the submission that is next, and wakes somebody to answer its questions."""
    if registrar.work():
        broker.wake(ANALYSE)


def answer(analyst: Analyst, store: Store) -> None:
    """Answers the questions on the video that is next, and goes on with re-indexing as long as there is any:
    nobody sends messages for what has not been asked yet."""
    if analyst.work() and store.reindex.is_running():
        broker.wake(ANALYSE)


def cancel(store: Store, key: str, arguments: Mapping[str, Any]) -> None:
    """Ends what waits, and has what runs end between two stages or windows."""
    try:
        wanted = contract.parse_cancel(arguments)
    except InvalidMessage as error:
        _reject(store, key, arguments, error)
        return
    store.submissions.cancel(wanted.submissions)
    store.analyses.cancel_submitted(wanted.submissions)
    store.analyses.cancel(wanted.analyses)


def ingest_directory(
    store: Store, settings: Settings, key: str, arguments: Mapping[str, Any]
) -> list[Accepted]:
    """Submits each finished file of a folder. The same file with the same questions is one submission
    however often its folder is looked through."""
    try:
        folder = contract.parse_ingest_directory(key, arguments)
        found = _finished(folder, settings)
    except VideoMindError as error:
        _reject(store, key, arguments, error)
        return []
    named = by_key(folder, found, arguments)
    known = store.submissions.known(list(named))
    return [known.get(key) or add(store, submission) for key, submission in named.items()]


def by_key(
    folder: contract.Folder, files: Sequence[Path], arguments: Mapping[str, Any]
) -> dict[str, Submission]:
    """What these files of a folder are submitted as, by key; asked the same, a file has the same one."""
    found: dict[str, Submission] = {}
    for path in files:
        with suppress(FileNotFoundError):  # it was finished, and somebody has taken it away since
            key = _file_key(path, arguments)
            found[key] = replace(folder.template, uri=path.as_uri(), key=key)
    return found


def _finished(folder: contract.Folder, settings: Settings) -> Sequence[Path]:
    """The files that looked the same twice, some seconds apart."""
    first = look(folder, settings, {})
    time.sleep(SETTLE_SECONDS)
    return look(folder, settings, first.seen).finished


def look(folder: contract.Folder, settings: Settings, seen: Mapping[Path, Sighting]) -> Scan:
    """What is in a folder now, and which of it looks as it did in an earlier look."""
    rules = SourceRules(roots=settings.media_roots)
    return finished_files(
        Path(folder.path), folder.pattern, rules, SETTLE_SECONDS, seen, folder.recursive, MOST_FILES
    )


def retry(store: Store, submissions: Sequence[int], analyses: Sequence[int]) -> int:
    """Has what failed or was cancelled tried again from the start. How many."""
    count = store.submissions.retry(submissions)
    broker.wake(FETCH, count)
    again = store.analyses.retry(analyses)
    broker.wake(ANALYSE, again)
    return count + again


def _file_key(path: Path, arguments: Mapping[str, Any]) -> str:
    status = path.stat()
    asked = json.dumps(arguments, sort_keys=True, default=str)
    identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{asked}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()


def _reject(store: Store, key: str, arguments: Mapping[str, Any], error: Exception) -> None:
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        text = repr(arguments)
    given = arguments.get("key")
    named = isinstance(given, str) and 0 < len(given) <= _LONGEST_KEY
    store.submissions.reject(str(given) if named else key, text[:_KEPT_ARGUMENTS], error)
