"""How much of a video we are ready to take, for how long and at what cost. Knows no container."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vm.errors import DecodeTimeout


@dataclass(frozen=True)
class MediaLimits:
    """Bounds on what a file may ask of us.

    Attributes:
        max_width, max_height: pixels of one frame, before rotation.
        max_duration: seconds of video.
        timeout: seconds that one call (opening, one `read`, one export) may take.
    """

    max_width: int = 8192
    max_height: int = 8192
    max_duration: float = 24 * 3600.0
    timeout: float = 600.0

    @property
    def max_pixels(self) -> int:
        return self.max_width * self.max_height


@dataclass(frozen=True)
class Cage:
    """Bounds on the process that reads one file; `MediaLimits` are bounds on the file itself.

    Attributes:
        memory_bytes: what reading may take on top of what the process starts with, some 200 MB that it
            mostly shares with others.
        cpu_seconds: computing time for all that is read of the file until it is closed, all cores together.
        ahead_bytes: frames that may be kept which were decoded before anybody asked for them.
        grace_seconds: how long after `MediaLimits.timeout` a process that does not answer is ended. Opening
            alone takes up to 20 s longer than that limit where a disk is slow.
        open_files: files that may be open at once.
        niceness: by how much other processes are preferred to it, 0 to 19.
    """

    memory_bytes: int = 4 << 30
    cpu_seconds: int = 3600
    ahead_bytes: int = 256 << 20
    grace_seconds: float = 30.0
    open_files: int = 64
    niceness: int = 5


@dataclass(frozen=True)
class Deadline:
    """The moment at which a call on `path` has taken `seconds`, counted from its creation."""

    path: str
    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> bool:
        return time.monotonic() - self.started > self.seconds

    def check(self) -> None:
        """Raises DecodeTimeout once the time is up."""
        if self.passed:
            raise too_slow(self.path, self.seconds)


def too_slow(path: str, seconds: float) -> DecodeTimeout:
    """The error for a call on `path` that took longer than it may."""
    return DecodeTimeout(
        f"{path}: reading took longer than {seconds:g} s. Shorten the video or raise the time limit."
    )
