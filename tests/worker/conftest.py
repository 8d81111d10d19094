"""A migrated database, a real video, and a model that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vm.errors import UnsupportedMedia
from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Plan, Result, Step, VideoFacts
from worker import schema
from worker.jobs import Claim, Request
from worker.media import Source, identify
from worker.settings import Settings, using
from worker.store import Store

FACTS = VideoFacts("", 2.0, 5.0, 10, 64, 48, "h264", 0, 0.0)


class FakeMind:
    """Answers every question with the same two moments; `answers` may replace what a question gives."""

    fingerprint = "f" * 64

    def __init__(self) -> None:
        self.opened: list[Path] = []
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], Result]] = {}

    @contextmanager
    def open(self, video: Path) -> Iterator[SimpleNamespace]:
        self.opened.append(video)
        if not video.read_bytes()[4:8] == b"ftyp":
            raise UnsupportedMedia(f"{video} is not a video")
        yield SimpleNamespace(video=FACTS, ask=self._ask)

    def _ask(self, question, mode, options, window, min_answer_seconds, progress) -> Result:
        self.asked.append(question)
        progress("grounder", 0.5)
        return self.answers.get(question, lambda: _found(question, mode, options))()


def _found(question: str, mode="auto", options=()) -> Result:
    """What FakeMind finds: two verified candidates, ranked against the grounder's order."""
    first = Candidate(Span(0.1, 0.4), 0.75, False, 0.2, 0.6, 0.4)
    second = Candidate(Span(1.0, 1.6), 0.5, False, 0.9, 0.05, 0.7)
    return Result(
        question=question,
        mode=mode,
        options=tuple(options),
        plan=Plan((Step("grounder", "a door opens"), Step("answerer")), '[{"type": "grounder"}]'),
        query="a door opens",
        candidates=(first, second),
        moments=(Moment(second, 1, "a door opens"), Moment(first, 2, "a door opens")),
        answer=Answer("through the door", None, Span(0.0, 2.0)),
        video=FACTS,
        fingerprint=FakeMind.fingerprint,
        warnings=("cut off at 1.9 s",),
        seconds={"decode": 0.25, "total": 0.5},
    )


def _encode(path: Path, seed: int = 0) -> Path:
    """Writes two seconds of 64×48 noise at 5 frames per second."""
    frames = np.random.default_rng(seed).integers(0, 255, (10, 48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("database") / "migrated.db"
    schema.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def url(migrated: Path, tmp_path: Path) -> str:
    """A database of the test's own, with empty tables."""
    copyfile(migrated, tmp_path / "test.db")
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened, using(Settings(database_url=url, checkpoint="fake")):
        yield opened


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _encode(tmp_path_factory.mktemp("videos") / "door.mp4")


@pytest.fixture
def encode() -> Callable[..., Path]:
    """Encodes another video: `encode(path, seed=1)`."""
    return _encode


@pytest.fixture(scope="session")
def source(video: Path) -> Source:
    return identify(video)


@pytest.fixture
def found() -> Callable[..., Result]:
    """Makes what the fake model finds."""
    return _found


@pytest.fixture
def mind(monkeypatch: pytest.MonkeyPatch) -> FakeMind:
    """The model of this process is a fake one."""
    fake = FakeMind()
    monkeypatch.setattr("worker.engine.loaded", lambda: fake)
    return fake


@pytest.fixture
def submitted(store: Store, source: Source) -> Callable[..., int]:
    """Submits a question on the video, and gives the analysis' id."""

    def submit(question: str = "Who comes in?", **how: object) -> int:
        return store.submit(source, Request(question, **how), FakeMind.fingerprint)

    return submit


@pytest.fixture
def claimed(store: Store, submitted: Callable[..., int]) -> Claim:
    """A claim on one submitted analysis."""
    return store.claim([submitted()])[0]
