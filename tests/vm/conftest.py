import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from typer.core import TyperGroup
from typer.main import get_group

from vm.cli import app
from vm.mind import VideoMind
from vm.terminal import run_app

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The miniature is so small that a second thread only costs."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def miniature() -> Path:
    """A checkpoint folder with planner, grounder and verifier; its base lies beside it."""
    return PARITY / "checkpoint"


@pytest.fixture
def bundled(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The miniature in the place of the bundled checkpoint, its base inside."""
    folder = tmp_path / "bundled"
    shutil.copytree(miniature, folder)
    shutil.copytree(miniature.parent / "base", folder / "base")
    monkeypatch.setattr("vm.bundled.BUNDLED_CHECKPOINT", folder)
    return folder


@pytest.fixture(scope="session")
def short_video() -> Path:
    """Three seconds."""
    return PARITY / "videos" / "tiny3s.mp4"


@pytest.fixture(scope="session")
def mind(miniature: Path) -> VideoMind:
    return VideoMind.load(miniature, device="cpu")


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def commands() -> TyperGroup:
    """The library's; finding out what each of them takes takes long."""
    return get_group(app)


@pytest.fixture
def run(
    commands: TyperGroup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """The library's command as its entry point runs it, but for the process."""
    for name in ("CHECKPOINT", "BASE", "DEVICE", "DTYPE"):
        monkeypatch.delenv(f"VIDEOMIND_{name}", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["videomind", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run_app(commands)
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, *capsys.readouterr())

    return run
