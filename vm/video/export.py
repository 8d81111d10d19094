"""Cuts a stretch out of a video: copied where a keyframe allows, else encoded anew."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, takewhile
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vm.errors import InvalidSource, NoFrames, QuestionError
from vm.moments import Span
from vm.video.decoding import frames_from, packets_from, plan_runs
from vm.video.inspection import inspect
from vm.video.limits import MediaLimits
from vm.video.source import Source, VideoPacket, check_regular_file, open_container, typed_errors
from vm.video.timeline import Timeline

# What players expect in an MP4; the rest is encoded anew, or left out if it is sound.
_COPIED_VIDEO = frozenset({"h264", "hevc", "libdav1d", "av1", "vp9", "mpeg4"})
_COPIED_AUDIO = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "alac", "flac"})


@dataclass(frozen=True)
class Clip:
    """A clip that was written.

    `span` is what was cut, in seconds of the source; `copied` says that its pictures are the
    source's own and not encoded anew.
    """

    path: str
    span: Span
    copied: bool


@dataclass(frozen=True)
class _Cut:
    """Ticks of the source's video stream: `zero` is the clip's start, `end` the first not shown.

    `half` is half a frame, 0 in an uneven rhythm: a frame's own time, however rounded, is to include
    the frame.
    """

    key: int
    zero: int
    end: int
    half: int
    time_base: Fraction

    @property
    def start(self) -> int:
        return self.zero - self.half


def export_clip(
    source: str | os.PathLike[str],
    span: Span,
    out: str | os.PathLike[str],
    limits: MediaLimits | None = None,
) -> Clip:
    """Writes the part of a video within `span` to an MP4 file, with its sound and rotation.

    Where a keyframe lies within half a frame of the start, the pictures are copied as they are; the
    clip may then last up to a few frames longer, as far as the last pictures refer to them. Nothing
    but a complete file ever appears under the name `out`.

    Args:
        span: seconds from the first frame; cut to the video.

    Raises:
        QuestionError: nothing of the span lies in the video.
        InvalidSource: `out` cannot be written.
        VideoError: the source cannot be used.
    """
    path = check_regular_file(source)
    limits = limits or MediaLimits()
    with typed_errors(path):
        timeline = inspect(path, limits).timeline
        span = Span.clamped(span.start, span.end, timeline.duration)
        cut = _cut(timeline, span)
        if cut.end <= cut.start:
            raise QuestionError(f"{path}: nothing to cut; it lasts {timeline.duration:.2f} s.")
        with Source(path, limits, threaded=True) as video, _finished_file(Path(out)) as clip:
            copied = _write(video, timeline, cut, clip)
    return Clip(os.fspath(out), span, copied)


def _cut(timeline: Timeline, span: Span) -> _Cut:
    half = math.floor(1 / timeline.frame_rate / timeline.time_base / 2) if timeline.steady else 0
    zero, end = (timeline.origin + round(Fraction(at) / timeline.time_base) for at in (span.start, span.end))
    key = plan_runs([zero + half], timeline.keys)[0].key
    return _Cut(key, zero, end - half, half, timeline.time_base)


@contextmanager
def _finished_file(out: Path) -> Iterator[OutputContainer]:
    """A container to write to, which gets its name only once it is complete."""
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        unfinished.touch()
    except OSError as error:
        raise InvalidSource(f"{out}: cannot be written ({error.strerror}).") from error
    try:
        with av.open(f"file:{unfinished.absolute()}", "w", format="mp4") as clip:
            yield clip
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


def _write(video: Source, timeline: Timeline, cut: _Cut, clip: OutputContainer) -> bool:
    """Returns whether the pictures were copied."""
    copied = _copied(video, timeline, cut)
    with open_container(video.path, video.limits) as other:
        # Both streams must have been added before the first packet is written.
        if copied:
            stream = clip.add_stream_from_template(video.stream, opaque=True)
            pictures = _restamped(copied, stream, cut.zero)
        else:
            pictures = _encoded(video, timeline, cut, clip)
        sound = _sound(other, timeline, cut, clip)
        for packet in heapq.merge(pictures, sound, key=_decoding_time):
            video.deadline.check()
            clip.mux(packet)
    return copied is not None


def _decoding_time(packet: VideoPacket) -> Fraction:
    return (packet.dts or 0) * packet.time_base


def _copied(video: Source, timeline: Timeline, cut: _Cut) -> Iterator[VideoPacket] | None:
    """The packets of the cut, where it starts on a keyframe; else None."""
    if timeline.counted or video.decoder.name not in _COPIED_VIDEO:
        return None
    packets = packets_from(video, timeline, cut.key)
    first = next(packets, None)
    if first is None or first.pts is None or not cut.start <= first.pts <= cut.zero + cut.half:
        return None
    return _needed(chain([first], packets), first.pts, cut.end)


def _needed(packets: Iterable[VideoPacket], start: int, end: int) -> Iterator[VideoPacket]:
    """Packets shown from `start` to `end`, and those that they refer to."""
    waiting: list[VideoPacket] = []
    for packet in packets:
        if packet.dts is not None and packet.dts >= end:
            return
        # What is decoded after the keyframe but shown before it refers to what is cut off.
        if packet.pts is None or packet.pts < start:
            continue
        waiting.append(packet)
        if packet.pts < end:
            yield from waiting
            waiting = []


def _restamped(packets: Iterable[VideoPacket], stream: Stream, zero: int) -> Iterator[VideoPacket]:
    for packet in packets:
        packet.stream = stream
        packet.pts = None if packet.pts is None else packet.pts - zero
        packet.dts = None if packet.dts is None else packet.dts - zero
        yield packet


def _encoded(video: Source, timeline: Timeline, cut: _Cut, clip: OutputContainer) -> Iterator[VideoPacket]:
    """The pictures of the cut as H.264, in the size of the first one."""
    frames = _frames(video, timeline, cut)
    first = next(frames, None)
    if first is None:
        raise NoFrames(f"{video.path}: damaged; nothing decodes in the part that was asked for.")
    options = {"preset": "veryfast", "crf": "18"}
    stream = clip.add_stream("libx264", rate=timeline.frame_rate.limit_denominator(1001), options=options)
    # H.264 with shared colour samples needs even sizes.
    stream.width, stream.height = (max(2, side // 2 * 2) for side in (first.width, first.height))
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = cut.time_base
    if first.rotation:
        stream.set_display_rotation(first.rotation)
    return _encoding(chain([first], frames), stream)


def _encoding(frames: Iterable[VideoFrame], stream: VideoStream) -> Iterator[VideoPacket]:
    reformatter = VideoReformatter()
    for frame in frames:
        even = reformatter.reformat(frame, stream.width, stream.height, "yuv420p")
        even.pts, even.time_base, even.pict_type = frame.pts, frame.time_base, PictureType.NONE
        yield from stream.encode(even)
    yield from stream.encode(None)


def _frames(video: Source, timeline: Timeline, cut: _Cut) -> Iterator[VideoFrame]:
    """What is on screen within the cut, with times counted from its start."""
    held: VideoFrame | None = None
    for tick, frame in frames_from(video, timeline, cut.key):
        if tick >= cut.end:
            break
        if tick >= cut.start:
            if held and tick > cut.zero + cut.half:
                yield _at(0, held, cut)
            held = None
            yield _at(tick - cut.zero, frame, cut)
        else:
            held = frame
    if held:
        yield _at(0, held, cut)


def _at(tick: int, frame: VideoFrame, cut: _Cut) -> VideoFrame:
    frame.pts, frame.time_base = max(0, tick), cut.time_base
    return frame


def _sound(
    container: InputContainer, timeline: Timeline, cut: _Cut, clip: OutputContainer
) -> Iterator[VideoPacket]:
    """The first sound track's packets within the cut, where an MP4 takes them as they are."""
    found = next((a for a in container.streams.audio if a.codec_context.name in _COPIED_AUDIO), None)
    if found is None or found.time_base is None or timeline.counted:
        return iter(())
    stream = clip.add_stream_from_template(found, opaque=True)
    zero, end = (round(tick * cut.time_base / found.time_base) for tick in (cut.zero, cut.end))
    container.seek(zero, stream=found)
    packets: Iterator[VideoPacket] = iter(container.demux(cast(Stream, found)))
    within = takewhile(lambda p: p.size and (p.pts is None or p.pts < end), packets)
    return _restamped((p for p in within if p.pts is not None and p.pts >= zero), stream, zero)
