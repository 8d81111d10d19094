from pathlib import Path

import pytest
import torch

from vm.mind import VideoMind

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The miniature is so small that a second thread only costs."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature() -> Path:
    """A checkpoint folder with planner, grounder and verifier; its base lies beside it."""
    return PARITY / "checkpoint"


@pytest.fixture(scope="session")
def short_video() -> Path:
    """Three seconds."""
    return PARITY / "videos" / "tiny3s.mp4"


@pytest.fixture(scope="session")
def mind(miniature: Path) -> VideoMind:
    return VideoMind.load(miniature, device="cpu")
