"""What must not be opened is refused at once, with the right error and the file's name."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from tests.vm.video import made
from vm.errors import (
    DecodeTimeout,
    ForbiddenMedia,
    FrameTooLarge,
    InvalidSource,
    NoFrames,
    NoVideoStream,
    UnsupportedMedia,
    VideoError,
)
from vm.video import MediaLimits, open_video
from vm.video.source import FORMATS, VIDEO_CODECS, check_ffmpeg

REFUSED = {
    "missing": (lambda path: path, InvalidSource),
    "empty": (made.content(b""), InvalidSource),
    "a folder": (made.folder, InvalidSource),
    "a pipe": (made.pipe, InvalidSource),
    "a device": (lambda path: Path("/dev/zero"), InvalidSource),
    "a null byte in its name": (lambda path: Path(f"{path}\0"), InvalidSource),
    "zeros": (made.content(bytes(100_000)), UnsupportedMedia),
    "random bytes": (made.content(np.random.default_rng(0).bytes(100_000)), UnsupportedMedia),
    "HTML": (made.content(b"<!doctype html><html><body>Not found</body></html>" * 50), UnsupportedMedia),
    "sound only": (made.sound_only, NoVideoStream),
    "sound and its cover": (made.cover_art, NoVideoStream),
    "16000 pixels a side": (lambda path: made.png(path, 16_000), FrameTooLarge),
    "50000 pixels a side": (lambda path: made.png(path, 50_000), FrameTooLarge),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_at_once(tmp_path, what):
    make, error = REFUSED[what]
    path = make(tmp_path / "clip.mp4")
    with pytest.raises(error) as raised:
        open_video(path, MediaLimits(timeout=20))
    assert type(raised.value) is error
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat"])
@pytest.mark.parametrize("kind", ["ffconcat", "hls"])
def test_a_script_that_names_another_file_is_forbidden(footage, kind, name):
    other = footage.write("other.ts", container="mpegts")
    path = footage.folder / name
    path.write_text(made.playlist(kind, other))
    with pytest.raises(VideoError) as raised:
        open_video(path)
    assert isinstance(raised.value, ForbiddenMedia | UnsupportedMedia)


def test_a_concat_script_would_be_opened_but_for_the_format_list(footage):
    other = footage.write("other.ts", container="mpegts")
    path = footage.folder / "clip.mp4"
    path.write_text(made.playlist("ffconcat", other))
    with av.open(str(path), options={"safe": "0"}) as opened:
        assert opened.streams.video
    with pytest.raises(ForbiddenMedia, match="not one of the formats"):
        open_video(path)


@pytest.mark.parametrize(
    "address", ["concat:{0}|{0}", "http://127.0.0.1:9/clip.mp4", "subfile,,start,0,end,9,,:{0}", "pipe:0"]
)
def test_an_address_is_not_a_file(footage, address):
    clip = footage.write("clip.ts", container="mpegts")
    with pytest.raises(ForbiddenMedia, match="only local files"):
        open_video(address.format(clip))


def test_a_file_whose_name_looks_like_an_address_is_a_file(footage, monkeypatch):
    monkeypatch.chdir(footage.folder)
    footage.write("plain.mp4").rename(footage.folder / "concat:a|b.mp4")
    with open_video("concat:a|b.mp4") as video:
        assert video.info.frame_count == 100


def test_a_reference_to_data_in_another_file_is_not_followed(footage):
    """The sample data is declared to lie in a file elsewhere; `dref` version 0, flags 0, one entry."""
    path = footage.write("refers.mov")
    other = footage.write("other.mov", codec="mpeg4")
    data = path.read_bytes()
    entry = data.index(b"url ", data.index(b"dref"))
    data = data[: entry + 4] + bytes(4) + data[entry + 8 :]
    boxes = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref", b"url ")
    path.write_bytes(footage.grown(data, boxes, f"file://{other}".encode() + b"\0"))
    with open_video(path) as video:
        assert video.info.codec == "h264"
        assert footage.numbers_in(video, [0, 50]) == [0, 50]


def test_a_codec_that_is_not_listed_is_forbidden_and_not_even_probed(footage):
    path = footage.write("magic.avi", codec="magicyuv", options={})
    with pytest.raises(ForbiddenMedia, match="magicyuv"):
        open_video(path)
    with av.open(str(path), options={"codec_whitelist": VIDEO_CODECS}) as probed:
        assert probed.streams.video[0].pix_fmt is None


def test_formats_that_open_other_files_are_not_listed():
    listed = set(FORMATS.split(","))
    assert not listed & {
        "concat",
        "hls",
        "dash",
        "image2",
        "sdp",
        "rtsp",
        "imf",
        "lavfi",
        "webm_dash_manifest",
    }


@pytest.mark.parametrize("limits", [MediaLimits(max_width=95), MediaLimits(max_height=63)])
def test_the_size_limit_can_be_set(footage, limits):
    with pytest.raises(FrameTooLarge, match="96 x 64"):
        open_video(footage.write("clip.mp4"), limits)


def test_more_pixels_than_the_container_admits_are_refused(footage):
    path = footage.write("wide.mp4", size=(16384, 128), times=range(2))
    admitted = path.read_bytes().replace(struct.pack(">HH", 16384, 128), struct.pack(">HH", 320, 128))
    path.write_bytes(admitted)
    with pytest.raises(FrameTooLarge, match="16384 x 128"):
        open_video(path)


def test_an_index_cut_off_is_reported_as_truncated(footage):
    path = footage.write("clip.mp4", container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UnsupportedMedia, match="truncated"):
        open_video(path)


def test_a_missing_index_is_reported_as_truncated(footage):
    path = footage.write("clip.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnsupportedMedia, match="truncated"):
        open_video(path)


def test_pictures_that_do_not_decode_are_no_frames(footage):
    path = footage.write("clip.mp4")
    data = path.read_bytes()
    first, last = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:first] + bytes(last - first) + data[last:])
    with pytest.raises(NoFrames, match="no frame of the video"):
        open_video(path)


def test_the_time_limit_ends_opening(footage):
    with pytest.raises(DecodeTimeout, match="longer than 0 s"):
        open_video(footage.write("clip.mp4"), MediaLimits(timeout=0))


@pytest.mark.parametrize("version", ["8.1.1", "n7.0", "6.1.3"])
def test_an_ffmpeg_with_known_holes_is_refused(version):
    with pytest.raises(ForbiddenMedia, match=version):
        check_ffmpeg(version)


@pytest.mark.parametrize("version", ["8.1.2", "n8.2", "9.0", "N-118000-gabcdef"])
def test_a_current_ffmpeg_is_accepted(version):
    check_ffmpeg(version)
