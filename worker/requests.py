"""Notices at once when the process that works on a task is lost, instead of when its lease runs out."""

from __future__ import annotations

import logging
import re
import signal
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from vm.errors import VideoMindError
from worker import engine, holder
from worker.analysis import MOST_CRASHES

log = logging.getLogger(__name__)

# What kills a process that has done something wrong itself. Killed from outside, it may have been well.
_CRASHES = {int(s) for s in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)}


class WatchedRequest(Request):
    """A message being worked on, as the worker's parent process sees it."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)  # it comes wrapped in its traceback
        if isinstance(error, WorkerLostError):
            self._let_go(str(error))
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _let_go(self, reason: str) -> None:
        """Ends the leases of the lost process, and counts the video's crash if it was one."""
        try:
            store = engine.store()
            store.submissions.orphan(holder.prefix(self.worker_pid))
            for video_id in store.analyses.orphan(holder.prefix(self.worker_pid)):
                if _crashed(reason):
                    store.analyses.record_crash(video_id, MOST_CRASHES)
        except VideoMindError as error:
            log.warning("a lost process keeps its leases until they run out: %s", error)


def _crashed(reason: str) -> bool:
    found = re.search(r"signal (\d+)", reason)
    return found is not None and int(found[1]) in _CRASHES
