"""What a file is, before anything is read from it for real: its first frame, facts and timeline."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from av.stream import Discard
from av.video.frame import VideoFrame

from vm.errors import FrameTooLarge, NoFrames, UnsupportedMedia
from vm.result import VideoFacts
from vm.video.limits import MediaLimits
from vm.video.pixels import quarter_turns
from vm.video.recording import recorded_at
from vm.video.source import Source, check_size
from vm.video.timeline import Stamp, Timeline, are_trusted, from_count, from_index, from_packets

# Containers in which seeking to a timestamp means something.
_SEEKABLE = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts", "avi", "flv"})
_REORDERING = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"})
_FASTEST = 1000
_MICROSECONDS = 1_000_000
# Streams of one file end together to within this many seconds.
_RAGGED_END = 1.0


@dataclass(frozen=True)
class Inspection:
    """The facts for everybody, the timeline for the decoder, and whether the file's end is missing.

    `recorded_at` is when the recording began, None where the file does not tell.
    """

    facts: VideoFacts
    timeline: Timeline
    complete: bool
    recorded_at: datetime | None


def inspect(path: str, limits: MediaLimits) -> Inspection:
    """Opens the file, decodes one frame and finds out which frame is shown when.

    Raises:
        VideoError: the file is refused; `vm.errors` lists the reasons.
    """
    with Source(path, limits) as source:
        frame = _first_frame(source)
        timeline, complete = _from_index(source, frame) or _from_packets(source, frame)
        if timeline.duration > limits.max_duration:
            raise UnsupportedMedia(
                f"{path}: {timeline.duration:.0f} s of video are over the limit of "
                f"{limits.max_duration:g} s. Cut the file or raise the limit."
            )
        began = recorded_at(source.container.metadata, source.stream.metadata)
        return Inspection(_facts(source, frame, timeline), timeline, complete, began)


def _first_frame(source: Source) -> VideoFrame:
    frames: list[VideoFrame] = []
    for packet in source.packets():
        frames = source.decode(packet)
        if frames:
            break
    frames = frames or source.decode(None)
    if not frames and not source.decoder.width:
        # The decoder forgets a size that it refuses.
        raise FrameTooLarge(
            f"{source.path}: the size of its frames is unreadable or over the limit of "
            f"{source.limits.max_width} x {source.limits.max_height}. Scale it down or raise the limit."
        )
    if not frames:
        raise NoFrames(f"{source.path}: no frame of the video can be decoded; the file is damaged or empty.")
    check_size(frames[0].width, frames[0].height, source.limits, source.path)
    return frames[0]


def _facts(source: Source, frame: VideoFrame, timeline: Timeline) -> VideoFacts:
    turns = quarter_turns(frame)
    width, height = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
    return VideoFacts(
        path=source.path,
        duration=timeline.duration,
        frame_rate=float(timeline.frame_rate),
        frame_count=timeline.frame_count,
        width=width,
        height=height,
        codec=source.decoder.name,
        rotation=turns * 90,
        start_time=0.0 if timeline.counted else float(timeline.origin * timeline.time_base),
    )


def _declared_rate(source: Source) -> Fraction | None:
    rate = source.stream.average_rate or source.stream.guessed_rate
    return rate if rate and 0 < rate <= _FASTEST else None


def _from_index(source: Source, frame: VideoFrame) -> tuple[Timeline, bool] | None:
    """From an MP4's own index, so that a long file need not be read through; None where it is partial.

    A fragmented MP4 has no index in advance.
    """
    stream = source.stream
    entries = stream.index_entries
    if not source.container.format.name.startswith("mov") or not (stream.frames and len(entries)):
        return None
    size = os.path.getsize(source.path)
    listed = [(e.timestamp, e.is_keyframe, not e.is_discard, e.pos + e.size) for e in entries]
    times = [time for time, _, is_shown, end in listed if is_shown and end <= size]
    # What an edit list hides may still be where decoding has to start.
    keys = [time for time, is_key, _, end in listed if is_key and end <= size]
    origins = [time for time in (stream.start_time, frame.pts) if time is not None]
    if not times or not origins or stream.time_base is None:
        return None
    timeline = from_index(times, keys, stream.time_base, _declared_rate(source), min(origins))
    return timeline, all(end <= size for *_, end in listed)


def _from_packets(source: Source, frame: VideoFrame) -> tuple[Timeline, bool]:
    """From every packet in the file, where the container's index is missing or cannot be relied on."""
    stamps, end = _scan(source)
    stream = source.stream
    complete = len(stamps) >= stream.frames and not _ends_early(source, end)
    reorders = source.decoder.name in _REORDERING and bool(source.decoder.has_b_frames)
    # AVI stores no presentation times, which the reader can only guess where frames are reordered.
    guessed = source.container.format.name == "avi" and reorders
    if guessed or stream.time_base is None or frame.pts is None or not are_trusted(stamps, reorders):
        return from_count(max(1, len(stamps)), _declared_rate(source)), complete
    seekable = source.container.format.name in _SEEKABLE
    timeline = from_packets(stamps, stream.time_base, _declared_rate(source), frame.pts, seekable)
    return timeline, complete


def _scan(source: Source) -> tuple[list[Stamp], float]:
    """The stamps of all video packets, and the second at which the last stream ends."""
    source.reopen()
    for stream in source.container.streams:
        stream.discard = Discard.default
    stamps: list[Stamp] = []
    end = 0.0
    for packet in source.packets(all_streams=True):
        if packet.pts is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index == source.stream.index:
            stamps.append(Stamp(packet.pts, packet.dts, packet.is_keyframe))
    return stamps, end


def _ends_early(source: Source, end: float) -> bool:
    """Whether the file stops before the length its header declares, or data it lists is not there."""
    if any(entry.pos + entry.size > os.path.getsize(source.path) for entry in source.stream.index_entries):
        return True
    declared = source.container.duration
    if "matroska" not in source.container.format.name or declared is None:
        return False
    start = (source.container.start_time or 0) / _MICROSECONDS
    length = declared / _MICROSECONDS
    return end - start + _RAGGED_END < length <= source.limits.max_duration
