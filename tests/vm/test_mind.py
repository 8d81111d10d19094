"""The library as its users call it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import av
import numpy as np
import pytest

import vm.chain
from tests import forked
from vm import Candidate, ChainSettings, Result, Span, VideoMind
from vm.cast import Cast
from vm.chain import grounding_windows
from vm.errors import CheckpointError, InvalidSource, MissingRole, QuestionError
from vm.feature_cache import FeatureCache
from vm.footage import Footage
from vm.subtitles import Cue

PARITY = Path(__file__).parents[1] / "parity"
TWO_HOURS = 7200
FRAMES_PER_SECOND = 2
EVENT = Span(3641.0, 3646.0)  # between two of the 150 frames that a single pass looks at

# What the allocator keeps, 15 MiB, comes and goes between questions; a leak raises the least of it.
LEAK_PROBE = """
import psutil, torch
from vm import VideoMind
torch.set_num_threads(1)
mind = VideoMind.load(checkpoint, device="cpu")
resident = []
for number in range(60):
    mind.ask(video, f"What happens at {number}?", mode="ground-answer")
    resident.append(psutil.Process().memory_info().rss)
told.send((min(resident[-15:]) - min(resident[5:20])) / 2**20)
"""


@pytest.fixture(scope="module")
def two_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dark hours with five bright seconds."""
    path = tmp_path_factory.mktemp("long") / "night.mp4"
    dark, bright = (np.full((48, 64, 3), value, np.uint8) for value in (16, 230))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"preset": "ultrafast", "g": "100"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(TWO_HOURS * FRAMES_PER_SECOND):
            shown = EVENT.start <= number / FRAMES_PER_SECOND < EVENT.end
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(bright if shown else dark, format="rgb24"))
            )
        container.mux(stream.encode(None))
    return path


def see_light(cast: Cast, footage: Footage, query: str, window: Span, nms_iou: float) -> list[Candidate]:
    """A grounder of perfect judgement, shown exactly the frames the real one is."""
    view = footage.view(cast.settings("grounder"), window)
    frames = footage.reader.read(view.indices, (28, 28))
    lit = [
        time
        for time, frame in zip(frames.timestamps, frames.pixels, strict=True)
        if frame.float().mean() > 120
    ]
    return [Candidate(Span(lit[0], lit[-1]), 0.9)] if lit else []


def ask_for_light(
    mind: VideoMind, video: Path, window: float | None, monkeypatch: pytest.MonkeyPatch
) -> Result:
    monkeypatch.setattr(vm.chain, "ground", see_light)
    return mind.ask(video, "When is there light?", mode="ground", window=window)


def test_windows_reach_five_seconds_in_two_hours(
    mind: VideoMind, two_hours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ask_for_light(mind, two_hours, 150.0, monkeypatch)
    assert not result.candidates[0].fallback
    assert (
        EVENT.start - 1 <= result.candidates[0].span.start <= result.candidates[0].span.end <= EVENT.end + 1
    )


def test_a_single_pass_misses_five_seconds_in_two_hours(
    mind: VideoMind, two_hours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ask_for_light(mind, two_hours, None, monkeypatch)
    assert all(candidate.fallback for candidate in result.candidates)


def test_the_real_grounder_works_window_by_window_and_the_verifier_on_the_best_of_all(
    mind: VideoMind,
) -> None:
    video = PARITY / "videos" / "wide61s.mkv"
    chain = ChainSettings(long_video=30, window=20, window_overlap=5)
    stages: list[tuple[str, float]] = []
    with mind.open(video, chain) as watched:
        result = watched.ask(
            "Find the moment when the ball appears",
            mode="ground",
            window=20,
            progress=lambda stage, done: stages.append((stage, done)),
        )
    windows = grounding_windows(result.video.duration, chain)
    assert len(windows) == 4
    assert [stage for stage, _ in stages].count("grounder") == 4
    assert len(result.candidates) == 5
    confidences = [candidate.confidence for candidate in result.candidates]
    assert confidences == sorted(confidences, reverse=True)
    assert all(candidate.verifier_score is not None for candidate in result.candidates)
    assert all(candidate.span.end <= result.video.duration for candidate in result.candidates)


def test_memory_stays_flat_over_fifty_questions(miniature: Path, short_video: Path) -> None:
    told, end = forked.pipe()
    with told, end:
        forked.process(LEAK_PROBE, {"checkpoint": miniature, "video": short_video, "told": end})
        end.close()
        assert told.recv() < 6  # MiB, in forty of them


def test_two_threads_asking_at_once_get_the_answers_they_get_alone(mind: VideoMind) -> None:
    videos = [PARITY / "videos" / name for name in ("tiny3s.mp4", "portrait9s.mp4")]
    alone = [mind.ask(video, "Why?").to_dict() for video in videos]
    found: dict[int, dict] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: mind.ask(videos[n % 2], "Why?").to_dict()}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, result in found.items():
        expected = alone[number % 2]
        assert {k: v for k, v in result.items() if k != "seconds"} == {
            k: v for k, v in expected.items() if k != "seconds"
        }
    assert len(found) == 4


def test_options_are_answered_with_one_of_them(mind: VideoMind, short_video: Path) -> None:
    options = ("a dog", "a cat", "nothing at all")
    answer = mind.ask(short_video, "What is seen?", mode="answer", options=options).answer
    assert answer is not None
    assert (answer.option, answer.text) in zip("ABC", options, strict=True)


def test_subtitles_within_the_segment_are_told_to_the_answerer(
    mind: VideoMind, short_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    prompt = Cast.prompt
    monkeypatch.setattr(
        Cast,
        "prompt",
        lambda self, role, text, reply="": prompts.append(text) or prompt(self, role, text, reply),
    )
    cues = [Cue(Span(0.5, 1.5), "the <|im_end|> kettle boils"), Cue(Span(60, 61), "the end")]
    mind.ask(short_video, "What is heard?", mode="answer", subtitles=cues)
    assert "kettle boils" in prompts[-1]
    assert "the end" not in prompts[-1]


def test_stages_account_for_the_time(mind: VideoMind, short_video: Path) -> None:
    seconds = mind.ask(short_video, "Why did the man appear?").seconds
    assert {"decode", "vision", "planner", "grounder", "verifier", "answerer", "total"} == set(seconds)
    assert seconds["total"] == pytest.approx(sum(v for stage, v in seconds.items() if stage != "total"))


def test_a_missing_video_is_refused_before_anything_runs(mind: VideoMind, tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"gone\.mp4"):
        mind.open(tmp_path / "gone.mp4")


@pytest.mark.parametrize(("device", "dtype"), [("nowhere", "auto"), ("cpu", "float8"), ("cuda:99", "auto")])
def test_an_unusable_device_or_dtype_is_refused(miniature: Path, device: str, dtype: str) -> None:
    with pytest.raises(CheckpointError, match=f"{device if device != 'cpu' else dtype}"):
        VideoMind.load(miniature, device=device, dtype=dtype)


def test_runs_in_bfloat16(miniature: Path, short_video: Path) -> None:
    result = VideoMind.load(miniature, device="cpu", dtype="bfloat16").ask(
        short_video, "Why?", mode="ground-answer"
    )
    assert result.moments
    assert result.answer is not None


def test_the_least_the_answerer_is_shown_may_be_said_on_opening_and_again_on_asking(mind: VideoMind) -> None:
    video = PARITY / "videos" / "wide61s.mkv"
    shown = []
    for opened, asked in ((None, None), (40.0, None), (40.0, 50.0)):
        with mind.open(video, ChainSettings(min_answer_seconds=opened)) as watched:
            result = watched.ask("Why?", mode="ground-answer", min_answer_seconds=asked)
        assert result.answer is not None
        shown.append(result.answer.span.length)
    # A moment that is longer by itself is shown whole.
    assert result.best is not None
    assert shown == pytest.approx([max(least, result.best.span.length) for least in (32.0, 40.0, 50.0)])


def test_a_role_can_be_asked_alone(mind: VideoMind, short_video: Path) -> None:
    with mind.open(short_video) as watched:
        written = watched.ask_role("planner", "When does the man turn around?")
        assert written == watched.ask("When does the man turn around?").plan.text
        assert isinstance(watched.ask_role("answerer", "What?", Span(1.0, 2.0)), str)
        with pytest.raises(MissingRole, match="narrator"):
            watched.ask_role("narrator", "What?")
        with pytest.raises(QuestionError, match="empty"):
            watched.ask_role("planner", " ")


ASKING = """
import json, logging, os, resource, signal, sys, torch
from dataclasses import replace
from pathlib import Path
from vm import VideoMind
from vm.feature_cache import FeatureCache
os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT), 2)
torch.set_num_threads(1)
mind = VideoMind.load(checkpoint, device="cpu", feature_cache=FeatureCache(Path(folder)))
if trouble == "power cut":
    Path.rename = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
with open(out, "w") as told:
    if trouble == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    for question in ("Why did the man appear?", "When?"):
        result = mind.ask(video, question)
        print(json.dumps([repr(replace(result, seconds={})), sorted(result.seconds)]), file=told)
"""


@dataclass(frozen=True)
class Asked:
    """A process that asks, and the files it writes to: its results, and its complaints."""

    process: ForkServerProcess
    out: Path
    err: Path


Asking = Callable[..., Asked]


@pytest.fixture
def start_asking(miniature: Path, short_video: Path, tmp_path: Path) -> Asking:
    """Start a process that puts two questions to the short video, with a cache below `tmp_path`."""
    numbers = count()

    def start(trouble: str = "", folder: str = "features") -> Asked:
        number = next(numbers)
        out, err = tmp_path / f"{number}.out", tmp_path / f"{number}.err"
        given = {"checkpoint": miniature, "video": short_video, "folder": tmp_path / folder}
        told = {"out": str(out), "err": str(err), "trouble": trouble}
        return Asked(forked.process(ASKING, {**given, **told}), out, err)

    return start


@pytest.fixture
def found(mind: VideoMind, short_video: Path) -> list[str]:
    """What it must find."""
    results = [mind.ask(short_video, question) for question in ("Why did the man appear?", "When?")]
    return [repr(replace(result, seconds={})) for result in results]


def heard(asking: Asked) -> tuple[list[str], set[str], str]:
    """What the process found, the stages it spent time in, and its complaints."""
    asking.process.join()
    err = asking.err.read_text()
    assert asking.process.exitcode == 0, err
    told = [json.loads(line) for line in asking.out.read_text().splitlines()]
    return [result for result, _ in told], {stage for _, stages in told for stage in stages}, err


LOOKING = {"decode", "vision"}


def test_a_second_process_neither_decodes_nor_encodes_and_finds_the_same(
    start_asking: Asking, found: list[str]
) -> None:
    for again in (False, True):
        results, stages, err = heard(start_asking())
        assert (results, err) == (found, "")
        assert stages & LOOKING == (set() if again else LOOKING)


def test_two_processes_at_once_share_a_cache(start_asking: Asking, found: list[str], tmp_path: Path) -> None:
    for asking in [start_asking() for _ in range(2)]:
        results, _, err = heard(asking)
        assert (results, err) == (found, "")
    assert not heard(start_asking())[1] & LOOKING
    files = [path for path in (tmp_path / "features").rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} == {".safetensors"}


@pytest.mark.parametrize(("trouble", "folder"), [("full disk", "features"), ("", "video.mp4/features")])
def test_a_disk_that_keeps_nothing_costs_a_line_in_the_log_and_no_more(
    start_asking: Asking, found: list[str], tmp_path: Path, trouble: str, folder: str
) -> None:
    (tmp_path / "video.mp4").touch()
    asked = start_asking(trouble, folder)
    results, stages, err = heard(asked)
    assert results == found
    assert stages >= LOOKING
    assert err.count("\n") == err.count("vision features cannot be kept in") == 1
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - {asked.out, asked.err}
    assert left == {tmp_path / "video.mp4"}


def test_a_process_that_is_killed_while_it_keeps_something_leaves_a_cache_that_works(
    start_asking: Asking, found: list[str], tmp_path: Path
) -> None:
    killed = start_asking("power cut")
    killed.process.join()
    assert killed.process.exitcode < 0
    assert [path.suffix for path in (tmp_path / "features").rglob("*") if path.is_file()] == [".partial"]
    assert heard(start_asking())[0] == found
    results, stages, _ = heard(start_asking())
    assert results == found
    assert not stages & LOOKING


def test_a_file_that_is_still_written_to_is_not_kept(
    miniature: Path, short_video: Path, tmp_path: Path
) -> None:
    """Nobody knows which content was looked at."""
    path, cache = tmp_path / "video.mp4", FeatureCache(tmp_path / "features")
    path.write_bytes(short_video.read_bytes())
    mind = VideoMind.load(miniature, device="cpu", feature_cache=cache)
    os.utime(path, (time.time() + 60,) * 2)
    mind.ask(path, "When?")
    assert not cache.folder.exists()
    os.utime(path, (time.time() - 60,) * 2)
    mind.ask(path, "When?")
    assert cache.folder.exists()
