"""A store, a real video, and a model that answers at once."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests.worker.made import Source, source_of
from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Plan, Result, Step, VideoFacts
from vm.video import VideoReader, open_video
from worker import cli
from worker.jobs import Claim, Request, Submission
from worker.settings import Settings, using
from worker.store import Checked, Store

FACTS = VideoFacts("", 2.0, 5.0, 10, 64, 48, "h264", 0, 0.0)
LEASE = timedelta(minutes=5)


class FakeMind:
    """Answers every question with the same two moments; `answers` may replace what a question gives."""

    fingerprint = "f" * 64

    def __init__(self) -> None:
        self.opened: list[Path] = []
        self.hashes: list[str] = []
        self.asked: list[str] = []
        self.answers: dict[str, Callable[[], Result]] = {}

    @contextmanager
    def open(self, reader: VideoReader, content_hash: str) -> Iterator[SimpleNamespace]:
        self.opened.append(Path(reader.info.path))
        self.hashes.append(content_hash)
        yield SimpleNamespace(video=FACTS, ask=self._ask)

    def prefetch(self, reader: VideoReader, content_hash: str) -> None:
        """Nothing is looked at."""

    def _ask(self, question, mode, options, subtitles, window, min_answer_seconds, progress) -> Result:
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


@pytest.fixture
def settings(url: str, tmp_path: Path) -> Settings:
    """What the environment would say."""
    return Settings(database_url=url, checkpoint="fake", scratch=tmp_path / "scratch")


@pytest.fixture
def store(url: str, settings: Settings) -> Iterator[Store]:
    with Store(url) as opened, using(settings):
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
    return source_of(video)


@pytest.fixture
def found() -> Callable[..., Result]:
    """Makes what the fake model finds."""
    return _found


@pytest.fixture
def mind(monkeypatch: pytest.MonkeyPatch) -> FakeMind:
    """The model of this process is a fake one."""
    fake = FakeMind()
    monkeypatch.setattr("worker.engine.loaded", lambda: fake)
    monkeypatch.setattr("worker.engine.fingerprint", lambda: fake.fingerprint)
    # In a process of its own every video would cost its test half a second.
    monkeypatch.setattr("worker.ingest.opened", lambda path, settings: open_video(path))
    return fake


@pytest.fixture
def videomind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Iterator[Callable]:
    """Runs the command in this process; gives its exit code, stdout and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root = logging.getLogger()
    log_handlers, level = root.handlers[:], root.level

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["videomind", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:], root.level = log_handlers, level


@pytest.fixture
def registered(store: Store, source: Source) -> Callable[..., list[int]]:
    """Submits questions on the video, registers both, and gives the analyses' ids.

    `registered("Why?", "Who?", sha256=…, uri=…, key=…, facts=…, …)`; a question may be a Request, and all
    else that a submission has may be given.
    """
    numbers = count(1)

    def register(
        *questions: str | Request,
        sha256: str = source.sha256,
        fingerprint: str = FakeMind.fingerprint,
        facts: VideoFacts = FACTS,
        **how: object,
    ) -> list[int]:
        requests = tuple(Request(asked) if isinstance(asked, str) else asked for asked in questions)
        given = {"key": f"submission {next(numbers)}", "uri": source.uri, **how}
        accepted = store.submissions.add(Submission(requests=requests, **given))
        intake = store.submissions.claim_one(accepted.submission_id, "registrar", LEASE)
        checked = Checked(sha256, 1000, facts, intake.submission.recorded_at, "argument")
        return store.intakes.register(intake, checked, fingerprint)

    return register


@pytest.fixture
def submitted(registered: Callable[..., list[int]]) -> Callable[..., int]:
    """Submits a question on the video, and gives the analysis' id."""

    def submit(question: str = "Who comes in?", **how: object) -> int:
        return registered(Request(question, **how))[0]

    return submit


@pytest.fixture
def claimed(store: Store, submitted: Callable[..., int]) -> Claim:
    """A claim on one submitted analysis."""
    return store.analyses.claim_these([submitted()], "worker", FakeMind.fingerprint, LEASE)[0]
