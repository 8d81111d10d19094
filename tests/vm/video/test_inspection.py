"""Files that are cut off or damaged are used as far as they go, and the user is told."""

from __future__ import annotations

import random

import pytest

from tests.vm.video import made
from vm.errors import NoFrames, UnsupportedMedia
from vm.video import MediaLimits, open_video

CUT_OFF = {
    "index-first.mp4": {"container_options": {"movflags": "faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "cut.mkv": {},
    "cut.avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_file_cut_off_in_the_middle_is_used_up_to_there_with_a_warning(footage, name):
    path = footage.write(name, grain=20, **CUT_OFF[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_video(path) as video:
        assert 10 < video.info.frame_count < 90
        assert f"the file ends early: frames after {video.info.duration:.1f} s are missing" in video.warnings
        count = video.info.frame_count - 1
        assert footage.numbers_in(video, range(count)) == list(range(count))


def test_a_stream_without_index_cut_off_in_the_middle_is_used_up_to_there(footage):
    path = footage.write("cut.ts", container="mpegts", grain=20)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with open_video(path) as video:
        count = video.info.frame_count - 1
        assert footage.numbers_in(video, range(count)) == list(range(count))


def test_flipped_bytes_in_the_pictures_cost_some_of_them_and_the_user_is_told(footage):
    path = footage.write("flipped.mp4", grain=20, size=(192, 128))
    data = bytearray(path.read_bytes())
    first, last = data.index(b"mdat"), data.index(b"moov")
    chance = random.Random(0)
    for _ in range(40):
        data[chance.randrange(first + 20_000, last - 8)] ^= 0xFF
    path.write_bytes(data)
    with open_video(path) as video:
        found = footage.numbers_in(video, range(100))
        assert sum(number == index for index, number in enumerate(found)) > 40
        assert any("damaged or missing frames between" in warning for warning in video.warnings)


def test_what_does_not_decode_shows_the_frame_before_it(footage):
    path = footage.write("hole.mp4", codec="mjpeg", pixel_format="yuvj420p", options={})
    data = path.read_bytes()
    pictures = [start for start in range(len(data)) if data[start : start + 3] == b"\xff\xd8\xff"]
    path.write_bytes(data[: pictures[40]] + bytes(pictures[43] - pictures[40]) + data[pictures[43] :])
    with open_video(path) as video:
        assert footage.numbers_in(video, range(38, 46)) == [38, 39, 39, 39, 39, 43, 44, 45]
        assert video.read([39, 41], (28, 28)).timestamps == pytest.approx((39 / 25, 39 / 25))
        assert "damaged or missing frames between 1.6 and 1.7 s were replaced" in video.warnings


def test_a_part_in_which_nothing_decodes_is_an_error_and_the_rest_is_not(footage):
    path = footage.write("hole.mp4", codec="mjpeg", pixel_format="yuvj420p", options={})
    data = path.read_bytes()
    pictures = [start for start in range(len(data)) if data[start : start + 3] == b"\xff\xd8\xff"]
    path.write_bytes(data[: pictures[40]] + bytes(pictures[60] - pictures[40]) + data[pictures[60] :])
    with open_video(path) as video:
        with pytest.raises(NoFrames, match="hole"):
            video.read([50], (28, 28))
        assert footage.numbers_in(video, [10, 70]) == [10, 70]


@pytest.mark.parametrize("duration", [1e15, float("nan")])
def test_an_absurd_duration_in_a_header_changes_nothing(footage, duration):
    with open_video(made.with_duration(footage.write("absurd.mkv"), duration)) as video:
        assert (video.info.duration, video.info.frame_count) == (4.0, 100)
        assert len(video.sample(None, 1.0, 100)) == 4
        assert not video.warnings


def test_more_video_than_the_limit_is_refused(footage):
    path = footage.write("long.mkv")
    with pytest.raises(UnsupportedMedia, match="over the limit of 3 s"):
        open_video(path, MediaLimits(max_duration=3))
