"""The work of a decoder process: opens one file and answers requests for its frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from vm.errors import DecoderCrashed, VideoError
from vm.video.ahead import ReadAhead
from vm.video.channel import Channel
from vm.video.limits import MediaLimits
from vm.video.reader import VideoReader

Answer: TypeAlias = tuple[dict[str, Any], memoryview | bytes]


def answer_requests(channel: Channel) -> None:
    """Answers until nobody asks any more.

    Raises:
        EOFError, OSError: nobody asks any more.
        MemoryError: this process may take no more; it should end.
    """
    clerk = _Clerk()
    while True:
        answer = _attempt(clerk, channel.receive())
        if answer:
            channel.send(*answer)


class _Clerk:
    """Answers for one file; each public method is a request, and `open` the first."""

    path = ""

    def open(self, path: str, folder: str, limits: dict[str, Any], room: int) -> Answer:
        self.path = path
        os.chdir(folder)
        self._reader = reader = VideoReader(path, MediaLimits(**limits))
        self._ahead = ReadAhead(reader, room)
        began = reader.recorded_at.isoformat() if reader.recorded_at else None
        return {"info": vars(reader.info), "recorded_at": began, "warnings": reader.warnings}, b""

    def read(self, indices: Sequence[int], size: Sequence[int]) -> Answer:
        frames = self._ahead.read(indices, (size[0], size[1]))
        header = {"times": frames.timestamps, "warnings": self._reader.warnings}
        return header, frames.pixels.view(-1).numpy().data

    def prefetch(self, indices: Sequence[int], size: Sequence[int]) -> None:
        self._ahead.prefetch(indices, (size[0], size[1]))

    def timestamp(self, index: int) -> Answer:
        return {"times": [self._reader.timestamp(index)], "warnings": []}, b""


def _attempt(clerk: _Clerk, request: dict[str, Any]) -> Answer | None:
    """What is wrong with the file is an answer too, but a prefetch never has one."""
    do = request.pop("do")
    try:
        answer: Answer | None = getattr(clerk, do)(**request)
        return answer
    except Exception as error:
        if _lacks_memory(error):
            raise MemoryError from error
        return None if do == "prefetch" else (_told(error, clerk.path), b"")


def _told(error: Exception, path: str) -> dict[str, Any]:
    if isinstance(error, VideoError):
        return {"error": error.code, "message": str(error)}
    reason = f"{path}: reading it failed where nobody expected it ({type(error).__name__}: {error})."
    return {"error": DecoderCrashed.code, "message": reason}


def _lacks_memory(error: Exception) -> bool:
    for each in (error, error.__cause__):
        # The second is what FFmpeg says where there is no memory for another thread.
        if isinstance(each, MemoryError | BlockingIOError):
            return True
    # torch and threading raise nothing more particular.
    words = ("allocate memory", "start new thread") if isinstance(error, RuntimeError) else ()
    return any(word in str(error) for word in words)
