"""Whatever a decoder says that a file has taken over: it is bounded, and believed only where it can be."""

from __future__ import annotations

import socket

import pytest

from vm.errors import FrameTooLarge, UnsupportedMedia, VideoError
from vm.video import MediaLimits
from vm.video.channel import Channel
from vm.video.replies import checked_opening, checked_times, checked_warnings, told_error

INFO = {
    "path": "/etc/passwd",
    "duration": 4.0,
    "frame_rate": 25,
    "frame_count": 100,
    "width": 96,
    "height": 64,
    "codec": "h264",
    "rotation": 0,
    "start_time": 0.0,
}


@pytest.fixture
def channels():
    ours, theirs = socket.socketpair()
    yield Channel(ours), theirs
    ours.close()
    theirs.close()


def test_an_honest_opening_is_believed_but_for_the_path():
    opening = checked_opening({"info": INFO, "recorded_at": None}, "a.mp4", MediaLimits())
    assert vars(opening.info) == {**INFO, "path": "a.mp4"}
    assert opening.recorded_at is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("duration", float("inf")),
        ("duration", float("nan")),
        ("duration", 25 * 3600.0),
        ("duration", -1.0),
        ("duration", "4"),
        ("duration", None),
        ("frame_rate", 0),
        ("frame_rate", True),
        ("frame_count", 0),
        ("frame_count", 100.0),
        ("frame_count", 10**12),
        ("width", 8193),
        ("height", -64),
        ("codec", 264),
        ("codec", "h" * 5000),
        ("rotation", 900),
        ("start_time", float("-inf")),
    ],
)
def test_facts_that_cannot_be_are_refused(name, value):
    with pytest.raises(ValueError, match="not a"):
        checked_opening({"info": {**INFO, name: value}}, "a.mp4", MediaLimits())


@pytest.mark.parametrize("info", [None, [], "h264"])
def test_facts_that_are_none_are_refused(info):
    with pytest.raises(ValueError, match="no facts"):
        checked_opening({"info": info}, "a.mp4", MediaLimits())


@pytest.mark.parametrize("text", ["noon", "2024-05-17T12:00:00", "1904-01-01T00:00:00+00:00", 1715940000])
def test_a_start_that_cannot_be_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        checked_opening({"info": INFO, "recorded_at": text}, "a.mp4", MediaLimits())


@pytest.mark.parametrize("times", [None, [], [0.0], [0.0, 1.0, 2.0], [0.0, "1"], [0.0, float("nan")]])
def test_times_are_as_many_numbers_as_were_asked_for(times):
    with pytest.raises(ValueError, match="not a"):
        checked_times({"times": times}, 2)


@pytest.mark.parametrize("warnings", [None, "damaged", [1], ["x"] * 1001, ["x" * 5000]])
def test_warnings_are_few_and_short(warnings):
    with pytest.raises(ValueError, match=r"not a text|no list"):
        checked_warnings({"warnings": warnings}, "a.mp4")


def test_what_a_terminal_would_obey_is_spelt_out_but_for_the_file_s_own_name():
    path = "new\nline.mp4"
    told = checked_warnings({"warnings": [f"{path}: bad", "\x1b[2J", "\ud800"]}, path)
    assert told == [f"{path}: bad", r"'\x1b[2J'", r"'\ud800'"]


def test_an_error_keeps_its_kind_and_words():
    error = told_error({"error": "frame_too_large", "message": "a.mp4: too large"}, "a.mp4")
    assert (type(error), str(error)) == (FrameTooLarge, "a.mp4: too large")


@pytest.mark.parametrize("code", ["quarantined", "out_of_memory", "nothing known", None, ["no_frames"], {}])
def test_an_error_of_an_unknown_kind_is_unsupported_media(code):
    assert type(told_error({"error": code, "message": "bad"}, "a.mp4")) is UnsupportedMedia


def test_every_kind_of_video_error_can_be_told():
    for kind in VideoError.__subclasses__():
        if kind.__module__ == "vm.errors":
            assert type(told_error({"error": kind.code, "message": "bad"}, "a.mp4")) is kind


@pytest.mark.parametrize("message", [None, 7, "x" * 5000])
def test_an_error_has_words(message):
    with pytest.raises(ValueError, match="not a text"):
        told_error({"error": "no_frames", "message": message}, "a.mp4")


@pytest.mark.parametrize(
    "text", [b"[]", b"7", b"{", b"\xff", b"[" * 90_000, b'{"a":' * 200_000, b"x" * 2_000_000, b"9" * 5000]
)
def test_what_is_no_header_is_refused(channels, text):
    channel, theirs = channels
    channel.allow(5.0)
    theirs.setblocking(False)
    theirs.send(len(text).to_bytes(4) + text[:100_000])
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises((ValueError, EOFError)):
        channel.receive(1 << 20)


def test_a_header_comes_as_it_was_sent_and_bytes_after_it(channels):
    channel, theirs = channels
    Channel(theirs).send({"caf\u00e9 \udcff": [1, 0.1]}, b"pixels")
    assert channel.receive() == {"caf\u00e9 \udcff": [1, 0.1]}
    buffer = bytearray(6)
    channel.fill(memoryview(buffer))
    assert buffer == b"pixels"


def test_waiting_ends_when_the_time_is_up_though_bytes_keep_dripping_in(channels):
    channel, theirs = channels
    theirs.send(b"\0\0")
    channel.allow(0.05)
    with pytest.raises(TimeoutError):
        channel.receive()
    with pytest.raises(TimeoutError):
        channel.receive()
