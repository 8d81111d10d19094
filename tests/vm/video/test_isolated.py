"""Files read in a process of their own: the same frames, times, warnings and errors as in this one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vm.video import made
from vm.errors import InvalidSource, NoFrames, UnsupportedMedia, VideoError
from vm.video import IsolatedReader, MediaLimits, open_isolated, open_video

PARITY = Path(__file__).parents[2] / "parity" / "videos"
SIZE = (56, 84)


def assert_same(path: Path, damaged: bool = False) -> list[str]:
    """Both readers of a file tell the same, frame by frame; gives the warnings.

    Of what is damaged, FFmpeg makes another picture each time; only the first third is sound then.
    """
    with open_video(path) as own, open_isolated(path) as isolated:
        assert (isolated.info, isolated.recorded_at) == (own.info, own.recorded_at)
        assert isolated.warnings == own.warnings
        indices = (*own.sample(None, 2.0, 12), 0, own.info.frame_count - 1)
        assert isolated.sample(None, 2.0, 12) == indices[:-2]
        ours, theirs = own.read(indices, SIZE), isolated.read(indices, SIZE)
        alike = [torch.equal(*each) for each in zip(ours.pixels, theirs.pixels, strict=True)]
        sound = own.info.frame_count // 3 if damaged else own.info.frame_count
        assert all(same for same, index in zip(alike, indices, strict=True) if index < sound)
        assert ours.timestamps == theirs.timestamps
        assert [isolated.timestamp(index) for index in (0, 3)] == [own.timestamp(index) for index in (0, 3)]
        assert isolated.warnings == own.warnings
        return own.warnings


@pytest.mark.parametrize("path", sorted(PARITY.iterdir()), ids=lambda path: path.name)
def test_the_same_frames_come_of_sound_files(path):
    assert assert_same(path) == []


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("rotated.mp4", {"rotation": 90}),
        ("far-off.ts", {"container": "mpegts", "times": range(225_000_000, 225_000_100)}),
        ("uneven.mkv", {"times": [0, 1, 2, 5, 30, 31, 40, 41, 60]}),
        ("odd-size.mkv", {"size": (97, 63), "pixel_format": "yuv444p"}),
    ],
)
def test_the_same_frames_come_of_odd_files(footage, name, recipe):
    assert_same(footage.write(name, **recipe))


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4", "clip.ts"])
@pytest.mark.parametrize(
    "change", [made.flipped, lambda data: data[: len(data) * 2 // 5]], ids=["flipped", "cut"]
)
def test_the_same_comes_of_damaged_files(footage, name, change):
    options = {"movflags": "faststart"} if name == "clip.mp4" else {}
    path = footage.write(name, times=range(50), grain=40, container_options=options)
    path.write_bytes(change(path.read_bytes()))
    warnings = assert_same(path, damaged=True)
    assert warnings or name == "clip.ts"


def refusal(open_it: Callable[..., Any], path: str | Path, limits: MediaLimits) -> tuple[type, str]:
    with pytest.raises(VideoError) as raised:
        open_it(path, limits)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize(
    ("content", "limits"),
    [
        (None, MediaLimits()),
        (b"", MediaLimits()),
        (bytes(100_000), MediaLimits()),
        (b"ffconcat version 1.0\nfile /etc/passwd\n" * 50, MediaLimits()),
        ("video", MediaLimits(max_width=95)),
        ("video", MediaLimits(max_duration=1.0)),
        ("video", MediaLimits(timeout=0)),
    ],
    ids=["missing", "empty", "zeros", "script", "too wide", "too long", "no time"],
)
def test_the_same_is_refused_in_the_same_words(footage, content, limits):
    path = footage.folder / "bad.mp4"
    if content == "video":
        footage.write("bad.mp4")
    elif content is not None:
        path.write_bytes(content)
    assert refusal(open_isolated, path, limits) == refusal(open_video, path, limits)


@pytest.mark.parametrize(
    "name", ["new\nline.mp4", "caf\u00e9 \udcff.mp4", "a" * 5000, "nul\0.mp4", "concat:a|b"]
)
def test_names_that_are_hard_to_pass_on_are_refused_in_the_same_words(name):
    assert refusal(open_isolated, name, MediaLimits()) == refusal(open_video, name, MediaLimits())


def test_a_path_is_relative_to_where_we_are_now(footage, monkeypatch):
    footage.write("clip.mp4")
    monkeypatch.chdir(footage.folder)
    with open_isolated("clip.mp4") as video:
        assert video.info.path == "clip.mp4"
        assert footage.numbers_in(video, [42]) == [42]


def test_no_frames_and_frames_outside(footage):
    with open_isolated(footage.write("clip.mp4")) as video:
        assert video.read([], SIZE).pixels.shape == (0, 3, *SIZE)
        for ask in (lambda: video.read([100], SIZE), lambda: video.prefetch([-1], SIZE)):
            with pytest.raises(IndexError, match="100 frames"):
                ask()
        assert footage.numbers_in(video, [5]) == [5]


@pytest.fixture
def video(footage) -> Iterator[IsolatedReader]:
    with open_isolated(footage.write("clip.mp4")) as opened:
        yield opened


def test_a_file_that_changes_meanwhile_is_not_read_on(footage, video):
    video.close()
    footage.write("clip.mp4", times=range(50))
    with pytest.raises(UnsupportedMedia, match="changed"):
        video.read([0], SIZE)
    (footage.folder / "clip.mp4").unlink()
    with pytest.raises(InvalidSource):
        video.read([0], SIZE)


def test_what_is_prefetched_is_not_decoded_again(footage):
    """By then the file has nothing left that could be decoded."""
    path = footage.write("clip.mp4", grain=40)
    with open_isolated(path) as video:
        video.prefetch(range(0, 100, 10), (64, 96))
        video.prefetch([3], (64, 96))
        video.timestamp(0)  # has its answer when the prefetches are done
        path.write_bytes(bytes(path.stat().st_size))
        assert footage.numbers_in(video, [90, 3, 20, 20]) == [90, 3, 20, 20]
        with pytest.raises(NoFrames):
            video.read([44], (64, 96))


def test_prefetching_does_not_wait(video):
    os.kill(video.pid, signal.SIGSTOP)
    started = time.monotonic()
    video.prefetch(range(100), SIZE)
    assert time.monotonic() - started < 2
    os.kill(video.pid, signal.SIGCONT)
    assert video.read([1], SIZE).timestamps == (0.04,)


def test_a_mind_takes_either_reader(mind, short_video):
    with mind.open(open_isolated(short_video)) as isolated, mind.open(short_video) as own:
        one, other = (watched.ask("Where is it?", "ground") for watched in (isolated, own))
    assert (one.candidates, one.video, one.warnings) == (other.candidates, other.video, other.warnings)
    assert isolated.reader.pid is None
