"""Clips hold exactly what is shown within the span, and nothing half-written stays behind."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vm.errors import InvalidSource, QuestionError, UnsupportedMedia
from vm.moments import Span
from vm.video import export as export_module
from vm.video import export_clip, open_video

KEYFRAMES_EVERY_20 = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "0"}


def shown(footage, path: Path) -> list[int]:
    with open_video(path) as clip:
        return footage.numbers_in(clip, range(clip.info.frame_count))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.flv"])
def test_a_span_that_starts_on_a_keyframe_is_copied(footage, name):
    source = footage.write(name, options=KEYFRAMES_EVERY_20)
    clip = export_clip(source, Span(1.6, 2.4), footage.folder / "out.mp4")
    assert clip.copied
    assert shown(footage, footage.folder / "out.mp4") == list(range(40, 60))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_span_between_keyframes_is_encoded_anew(footage, name):
    source = footage.write(name, options={**KEYFRAMES_EVERY_20, "bf": "2"})
    clip = export_clip(source, Span(1.0, 2.0), footage.folder / "out.mp4")
    assert not clip.copied
    assert shown(footage, footage.folder / "out.mp4") == list(range(25, 50))


def test_a_copy_with_b_frames_holds_all_that_is_shown_within_the_span(footage):
    source = footage.write("clip.mkv", options={**KEYFRAMES_EVERY_20, "bf": "3", "b_strategy": "0"})
    clip = export_clip(source, Span(1.6, 2.2), footage.folder / "out.mp4")
    assert clip.copied
    assert shown(footage, footage.folder / "out.mp4")[:15] == list(range(40, 55))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("clip.gif", {"codec": "gif", "options": {}, "pixel_format": "rgb8"}),
        ("clip.h264", {"container": "h264"}),
        ("odd.mkv", {"size": (97, 63), "pixel_format": "yuv444p"}),
        ("clip.webm", {"codec": "libvpx", "options": {"g": "20", "deadline": "realtime", "cpu-used": "8"}}),
    ],
)
def test_what_an_mp4_does_not_take_is_encoded_anew(footage, name, changes):
    source = footage.write(name, **changes)
    assert not export_clip(source, Span(1.0, 2.0), footage.folder / "out.mp4").copied
    assert shown(footage, footage.folder / "out.mp4") == list(range(25, 50))


def test_a_span_that_starts_between_two_slides_begins_with_the_one_on_screen(footage):
    source = footage.write("slides.mp4", times=[0, 25, 75, 100])
    export_clip(source, Span(2.0, 3.5), footage.folder / "out.mp4")
    with av.open(str(footage.folder / "out.mp4")) as clip:
        assert [frame.time for frame in clip.decode(video=0)] == pytest.approx([0.0, 1.0])
    assert footage.straight_through(footage.folder / "out.mp4")[0][0] == 1


@pytest.mark.parametrize("start", [0.8, 1.0])
def test_rotation_is_kept(footage, start):
    source = footage.write("phone.mp4", rotation=90, options=KEYFRAMES_EVERY_20)
    export_clip(source, Span(start, 2.0), footage.folder / "out.mp4")
    with open_video(footage.folder / "out.mp4") as clip:
        assert (clip.info.width, clip.info.height, clip.info.rotation) == (64, 96, 90)
        assert footage.numbers_in(clip, [0]) == [round(start * 25)]


@pytest.mark.parametrize("start", [0.8, 1.0])
def test_sound_comes_along(footage, start):
    source = with_sound(footage.write("silent.mp4", options=KEYFRAMES_EVERY_20))
    export_clip(source, Span(start, 2.0), footage.folder / "out.mp4")
    with av.open(str(footage.folder / "out.mp4")) as clip:
        samples = [frame.time for frame in clip.decode(audio=0)]
    assert samples[0] == pytest.approx(0, abs=0.05)
    assert samples[-1] == pytest.approx(2.0 - start, abs=0.1)


def with_sound(path: Path) -> Path:
    target = path.with_name("sounding.mp4")
    with av.open(str(path)) as silent, av.open(str(target), "w") as out:
        video = out.add_stream_from_template(silent.streams.video[0], opaque=True)
        sound = out.add_stream("aac", rate=44100)
        for packet in silent.demux(silent.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        for place in range(170):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 44100, place * 1024
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return target


@pytest.mark.parametrize("span", [Span(9.0, 10.0), Span(1.0, 1.0)])
def test_a_span_with_nothing_in_it_is_refused(footage, span):
    with pytest.raises(QuestionError, match=r"lasts 4\.00 s"):
        export_clip(footage.write("clip.mp4"), span, footage.folder / "out.mp4")
    assert not (footage.folder / "out.mp4").exists()


def test_a_place_that_cannot_be_written_to_is_named(footage):
    out = footage.folder / "no such folder" / "out.mp4"
    with pytest.raises(InvalidSource, match="cannot be written"):
        export_clip(footage.write("clip.mp4"), Span(0, 1), out)


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(footage, monkeypatch):
    source = footage.write("clip.mp4")
    out = footage.folder / "out.mp4"
    out.write_bytes(b"old")

    def full_disk(packet):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "_decoding_time", full_disk)
    with pytest.raises(UnsupportedMedia, match="No space left"):
        export_clip(source, Span(1.0, 2.0), out)
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in footage.folder.iterdir()) == ["clip.mp4", "out.mp4"]
