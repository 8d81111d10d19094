"""Every frame the right one: against decoding straight through, over containers, codecs and oddities."""

from __future__ import annotations

import json
import threading
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import pytest
import torch

from vm.moments import Span
from vm.video import MediaLimits, open_video, probe

B_FRAMES = {"g": "20", "bf": "3", "b_strategy": "0"}
OPEN_GOPS = {**B_FRAMES, "x264-params": "open-gop=1"}
VP9 = {"g": "20", "deadline": "realtime", "cpu-used": "8"}
X265 = {"preset": "ultrafast", "x265-params": "keyint=20:bframes=3:log-level=none:pools=1"}
STEADY = {
    "plain.mp4": {},
    "b-frames.mp4": {"options": B_FRAMES},
    "open-gops.mp4": {"options": OPEN_GOPS},
    "one-keyframe.mp4": {"options": {"g": "1000", "bf": "3"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "starts-late.mp4": {"times": range(55, 155)},
    "hevc.mp4": {"codec": "libx265", "options": X265},
    "hevc-10-bit.mp4": {"codec": "libx265", "options": X265, "pixel_format": "yuv420p10le"},
    "b-frames.mkv": {"options": B_FRAMES},
    "open-gops.mkv": {"options": OPEN_GOPS},
    "10-bit.mkv": {"pixel_format": "yuv420p10le"},
    "gray.mkv": {"pixel_format": "gray"},
    "odd-size.mkv": {"size": (97, 63), "pixel_format": "yuv444p"},
    "no-duration.mkv": {"container_options": {"live": "1"}},
    "far-off.mkv": {"times": range(225_000_000, 225_000_100)},
    "ffv1.mkv": {"codec": "ffv1", "options": {}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "20", "deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VP9},
    "vp9-alpha.webm": {"codec": "libvpx-vp9", "options": VP9, "pixel_format": "yuva420p"},
    "png-alpha.mov": {"codec": "png", "options": {}, "pixel_format": "rgba"},
    "prores.mov": {"codec": "prores_ks", "options": {}, "pixel_format": "yuv422p10le"},
    "b-frames.flv": {"options": B_FRAMES},
    "b-frames.ts": {"options": B_FRAMES, "container": "mpegts"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}, "container": "mpegts"},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "far-off.ts": {"times": range(225_000_000, 225_000_100), "container": "mpegts"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "b-frames.avi": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "h264-b-frames.avi": {"options": B_FRAMES},
    "motion-jpeg.avi": {"codec": "mjpeg", "options": {}, "pixel_format": "yuvj420p"},
    "raw.h264": {"options": B_FRAMES, "container": "h264"},
    "negative-times.mkv": {
        "options": B_FRAMES,
        "times": range(-30, 70),
        "container_options": {"avoid_negative_ts": "disabled"},
    },
    "animated.gif": {"codec": "gif", "options": {}, "pixel_format": "rgb8"},
}
UNEVEN = list(accumulate([0, *[1, 1, 2, 5, 30, 1, 3] * 12]))
VARIABLE = {
    "phone.mp4": {},
    "b-frames.mp4": {"options": B_FRAMES},
    "browser.webm": {"codec": "libvpx-vp9", "options": VP9},
    "b-frames.mkv": {"options": B_FRAMES},
    "camera.ts": {"container": "mpegts"},
    "slides.gif": {"codec": "gif", "options": {}, "pixel_format": "rgb8", "time_base": Fraction(1, 100)},
}
SCATTERED = (99, 3, 57, 3, 20, 19, 21, 0, 80, 79, 41)


@pytest.mark.parametrize("name", STEADY)
def test_index_i_is_the_ith_frame_of_a_steady_file(footage, name):
    path = footage.write(name, **STEADY[name])
    truth = [number for number, _ in footage.straight_through(path)]
    with open_video(path) as video:
        assert video.info.frame_count == len(truth) == 100
        assert video.info.duration == 4.0
        assert footage.numbers_in(video, range(100)) == truth
        assert footage.numbers_in(video, SCATTERED) == [truth[index] for index in SCATTERED]
        times = video.read(SCATTERED, (32, 32)).timestamps
        assert times == pytest.approx([index / 25 for index in SCATTERED], abs=1e-3)
        assert [video.timestamp(index) for index in SCATTERED] == pytest.approx(times, abs=1e-3)
        assert not video.warnings


@pytest.mark.parametrize("name", VARIABLE)
def test_index_i_is_what_is_on_screen_at_that_time_in_a_variable_file(footage, name):
    path = footage.write(name, times=UNEVEN, **VARIABLE[name])
    truth = footage.straight_through(path)
    origin = truth[0][1]
    with open_video(path) as video:
        indices = range(video.info.frame_count)
        shown = video.read(indices, (64, 96))
        tick = 0.011 if name.endswith(("webm", "mkv", "gif")) else 1e-4
        for index, number, time in zip(
            indices, footage.numbers_in(video, indices), shown.timestamps, strict=True
        ):
            now = index / video.info.frame_rate
            assert (number, pytest.approx(time)) == max(
                ((n, t - origin) for n, t in truth if t - origin <= max(now, time)),
                key=lambda shown: shown[1],
            )
            assert time <= now + tick


def test_the_parity_clips_last_as_long_as_was_recorded():
    folder = Path(__file__).parents[2] / "parity"
    cases = json.loads((folder / "expected.json").read_text())["cases"]
    recorded = {case["video"]: case["duration"] for case in cases}
    assert {name: probe(folder / "videos" / name).duration for name in recorded} == recorded


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_rotated_phone_video_is_turned_upright(footage, degrees):
    path = footage.write("phone.mp4", rotation=degrees)
    with open_video(path) as video:
        sides = (video.info.width, video.info.height)
        assert sides == ((96, 64) if degrees == 180 else (64, 96))
        assert video.info.rotation == degrees % 360
        assert footage.numbers_in(video, [0, 37, 99]) == [0, 37, 99]


def test_an_edit_list_hides_what_it_cuts_off(footage):
    path = footage.write("cut.mp4", times=range(-30, 70), container_options={"use_editlist": "1"})
    truth = [number for number, _ in footage.straight_through(path)]
    with open_video(path) as video:
        assert truth[0] > 0
        assert footage.numbers_in(video, range(video.info.frame_count)) == truth


def test_joined_streams_of_two_sizes_are_read_to_the_end(footage):
    first = footage.write("first.ts", container="mpegts")
    second = footage.write("second.ts", container="mpegts", size=(128, 96), times=range(50))
    joined = footage.folder / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with open_video(joined) as video:
        assert footage.numbers_in(video, [0, 99, 100, 149]) == [0, 99, 0, 49]
        assert video.timestamp(149) == 149 / 25


def test_a_stream_that_starts_between_keyframes_begins_at_the_first_that_decodes(footage):
    whole = footage.write("whole.ts", container="mpegts").read_bytes()
    path = footage.folder / "tail.ts"
    path.write_bytes(whole[188 * 40 :])
    truth = [number for number, _ in footage.straight_through(path)]
    with open_video(path) as video:
        assert footage.numbers_in(video, range(video.info.frame_count)) == truth
        assert truth[0] > 0


def test_frames_come_in_the_size_asked_for_as_unsigned_bytes(footage):
    with open_video(footage.write("any.mp4")) as video:
        frames = video.read(video.sample(Span(1.0, 2.0), 2.0, 64), (28, 56))
    assert frames.pixels.shape == (4, 3, 28, 56)
    assert frames.pixels.dtype == torch.uint8
    assert frames.timestamps == pytest.approx((1.0, 1.32, 1.68, 2.0))


def test_no_frames_asked_for_gives_none(footage):
    with open_video(footage.write("any.mp4")) as video:
        assert video.read([], (28, 28)).pixels.shape == (0, 3, 28, 28)


def test_an_index_outside_the_video_is_an_error_of_the_caller(footage):
    with open_video(footage.write("any.mp4")) as video, pytest.raises(IndexError, match="100 frames"):
        video.read([100], (28, 28))


def test_reading_goes_on_after_close(footage):
    with open_video(footage.write("any.mp4")) as video:
        before = video.read([42], (32, 48)).pixels
        video.close()
        assert torch.equal(video.read([42], (32, 48)).pixels, before)


def test_two_readers_of_one_file_do_not_disturb_each_other(footage):
    path = footage.write("any.mkv", options=B_FRAMES)
    found: dict[int, list[int]] = {}

    def read(start: int) -> None:
        with open_video(path) as video:
            found[start] = footage.numbers_in(video, range(start, 100, 7))

    readers = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == {start: list(range(start, 100, 7)) for start in range(4)}


def test_few_full_size_frames_are_alive_at_once(footage, monkeypatch):
    """Weak references count the full-size pictures that resizing has seen and that still exist."""
    import weakref

    from vm.video import reader

    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0
    resize = reader.resize

    def counting(image, size):
        nonlocal most
        alive.add(image)
        most = max(most, len(alive))
        return resize(image, size)

    monkeypatch.setattr(reader, "resize", counting)
    with open_video(footage.write("any.mp4")) as video:
        video.read(range(100), (28, 28))
    assert most <= 2 * reader._WORKERS


def test_facts_of_a_file(footage):
    facts = probe(footage.write("any.mkv", times=range(50, 150)), MediaLimits())
    assert (facts.codec, facts.width, facts.height, facts.frame_rate) == ("h264", 96, 64, 25.0)
    assert (facts.start_time, facts.rotation) == (2.0, 0)
