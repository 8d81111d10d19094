from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.footage import Footage
from vm.mind import VideoMind


@pytest.fixture
def footage(mind: VideoMind, miniature: Path) -> Iterator[Footage]:
    """24 seconds at 10 frames per second."""
    with mind.open(miniature.parent / "videos" / "short24s.mp4") as watched:
        yield watched._footage
