"""VideoMind: find the moment in a video that answers a question, check it, and answer.

from vm import VideoMind

mind = VideoMind.load("path/to/checkpoint")
with mind.open("lecture.mp4") as watched:
    print(watched.ask("When does she draw the second graph?").best)
"""

from typing import TYPE_CHECKING, Any

from vm.config import ChainSettings
from vm.errors import VideoMindError
from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Plan, Result, Step, VideoFacts

if TYPE_CHECKING:
    from vm.mind import VideoMind, Watched

__all__ = [
    "Answer",
    "Candidate",
    "ChainSettings",
    "Moment",
    "Plan",
    "Result",
    "Span",
    "Step",
    "VideoFacts",
    "VideoMind",
    "VideoMindError",
    "Watched",
]


def __getattr__(name: str) -> Any:
    """The model's names are imported when first asked for: they bring torch, which takes seconds."""
    if name in ("VideoMind", "Watched"):
        from vm import mind

        return getattr(mind, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
