"""How much of a video we are ready to take, and for how long. Knows no container."""

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
            raise DecodeTimeout(
                f"{self.path}: reading took longer than {self.seconds:g} s. "
                "Shorten the video or raise the time limit."
            )
