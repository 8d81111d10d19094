"""A local file → an open container and its video stream, or a typed error. Trusts nothing in the file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vm.closing import Closing
from vm.errors import (
    DecodeTimeout,
    ForbiddenMedia,
    FrameTooLarge,
    InvalidSource,
    NoVideoStream,
    UnsupportedMedia,
    VideoError,
)
from vm.video.limits import Deadline, MediaLimits

# Containers that hold their own data. Playlists and scripts (hls, dash, concat, image2, sdp) are
# left out because they make the reader open other files and addresses.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,gif,apng,h264,hevc,png_pipe,jpeg_pipe"
VIDEO_CODECS = (
    "h264,hevc,av1,libdav1d,vp8,vp9,mpeg1video,mpeg2video,mpeg4,h263,flv,"
    "mjpeg,prores,ffv1,png,apng,gif,rawvideo"
)
# The reader never decodes sound, but recognising a stream's parameters may.
AUDIO_CODECS = (
    "aac,mp3,mp3float,mp2,ac3,eac3,opus,vorbis,flac,alac,pcm_s16le,pcm_s16be,pcm_u8,pcm_alaw,pcm_mulaw"
)

# Older FFmpeg releases overflow on crafted files (CVE-2026-8461).
OLDEST_FFMPEG = (8, 1, 2)

VideoPacket: TypeAlias = "Packet[Stream]"

_OPEN_SECONDS = 10.0
_DAMAGED_READS = 1000


class Source(Closing):
    """One open container, its video stream and decoder. Not for two threads at a time.

    Args:
        path: a local, regular file.
        threaded: let the decoder use all cores for this one stream.

    Raises:
        InvalidSource, ForbiddenMedia, UnsupportedMedia, NoVideoStream, FrameTooLarge, DecodeTimeout.
    """

    def __init__(self, path: str, limits: MediaLimits, threaded: bool = False) -> None:
        self.path = path
        self.limits = limits
        self._threaded = threaded
        self.restart_clock()
        self._open()

    def _open(self) -> None:
        self.container = open_container(self.path, self.limits)
        self.fresh = True
        try:
            self.stream = _choose_stream(self.container, self.path)
            self.decoder = self._prepared_decoder()
        except BaseException:
            self.container.close()
            raise

    def _prepared_decoder(self) -> VideoCodecContext:
        decoder = self.stream.codec_context
        _check_codec(decoder.name, self.path)
        check_size(decoder.width, decoder.height, self.limits, self.path)
        decoder.options = {"max_pixels": str(self.limits.max_pixels), "codec_whitelist": VIDEO_CODECS}
        decoder.thread_type = ThreadType.AUTO if self._threaded else ThreadType.NONE
        decoder.thread_count = 0 if self._threaded else 1
        return decoder

    def restart_clock(self) -> None:
        """Each call on the reader has the whole time limit for itself."""
        self.deadline = Deadline(self.path, self.limits.timeout)

    def reopen(self) -> None:
        """Back to the first packet, which not every container can seek to."""
        self.close()
        self._open()

    def seek(self, timestamp: int) -> bool:
        """To a keyframe at or before `timestamp` (stream ticks). False where the file cannot."""
        self.fresh = False
        try:
            self.container.seek(timestamp, stream=self.stream)
        except FFmpegError:
            return False
        return True

    def packets(self, all_streams: bool = False) -> Iterator[VideoPacket]:
        """Packets in decoding order up to the end of the file; unreadable stretches are passed over."""
        self.fresh = False
        streams = () if all_streams else (self.stream,)
        damaged = 0
        demuxer = self.container.demux(*streams)
        while damaged < _DAMAGED_READS:
            self.deadline.check()
            try:
                packet = next(demuxer)
            except FFmpegError:
                damaged += 1
                demuxer = self.container.demux(*streams)
                continue
            if packet.size == 0:
                return
            yield packet

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame]:
        """The frames that `packet` completes (None: all that are left), none where it is damaged."""
        self.deadline.check()
        try:
            return self.decoder.decode(packet)
        except (MemoryError, BlockingIOError):  # no damage, but a lack of memory or of threads
            raise
        except FFmpegError:
            return []

    def close(self) -> None:
        self.container.close()


@contextmanager
def typed_errors(path: str) -> Iterator[None]:
    """Whatever the media library raises about `path` leaves as a VideoError."""
    try:
        yield
    except VideoError:
        raise
    except (FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnsupportedMedia(
            f"{path}: cannot be read as a video ({reason}). The file is truncated, damaged or not media."
        ) from error


def check_regular_file(path: str | os.PathLike[str]) -> str:
    """The path as text, once it is sure to be a regular file with something in it.

    Raises:
        ForbiddenMedia: an address with a protocol other than a plain path.
        InvalidSource: missing, unreadable, empty, a folder, a pipe or a device.
    """
    text = os.fspath(path)
    try:
        found = os.stat(text)
    except (OSError, ValueError) as error:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+[:,]", text):
            raise ForbiddenMedia(f"{text}: only local files are opened; give the path of a file.") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidSource(f"{text}: {reason}. Give the path of a video file.") from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidSource(f"{text}: not a regular file. Give the path of a video file.")
    if found.st_size == 0:
        raise InvalidSource(f"{text}: the file is empty.")
    return text


def check_size(width: int, height: int, limits: MediaLimits, path: str) -> None:
    """Raises FrameTooLarge where a frame of this many pixels is over the limit."""
    if width > limits.max_width or height > limits.max_height:
        raise FrameTooLarge(
            f"{path}: frames of {width} x {height} pixels are over the limit of "
            f"{limits.max_width} x {limits.max_height}. Scale the video down or raise the limit."
        )


def check_ffmpeg(version: str) -> None:
    """Raises ForbiddenMedia where a released FFmpeg is older than is safe for untrusted files."""
    numbers = re.match(r"n?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if numbers and tuple(int(number or 0) for number in numbers.groups()) < OLDEST_FFMPEG:
        raise ForbiddenMedia(f"FFmpeg {version} is not safe for untrusted files: install av 18.1 or newer.")


def open_container(path: str, limits: MediaLimits) -> InputContainer:
    """Opens a file with every restriction that the media library knows.

    Raises:
        ForbiddenMedia, UnsupportedMedia, DecodeTimeout.
    """
    check_ffmpeg(av.ffmpeg_version_info)
    deadline = Deadline(path, _OPEN_SECONDS)
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": f"{VIDEO_CODECS},{AUDIO_CODECS}",
        "protocol_whitelist": "file",
        "max_pixels": str(limits.max_pixels),
        "enable_drefs": "0",  # QuickTime's references to other files
    }
    # An absolute path behind "file:" can be taken for nothing but a name.
    address = f"file:{Path(path).absolute()}"
    try:
        return av.open(
            address, options=options, metadata_errors="replace", timeout=(_OPEN_SECONDS, limits.timeout)
        )
    except av.error.ArgumentError as error:
        raise ForbiddenMedia(
            f"{path}: not one of the formats that are opened ({FORMATS}). Convert it to MP4 first."
        ) from error
    except FFmpegError as error:
        if deadline.passed:
            raise DecodeTimeout(f"{path}: opening took longer than {_OPEN_SECONDS:g} s.") from error
        raise UnsupportedMedia(
            f"{path}: not a video, truncated or damaged beyond reading ({error.strerror})."
        ) from error


def _choose_stream(container: InputContainer, path: str) -> VideoStream:
    """The first video stream that is not a cover picture; the others are not even read."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise NoVideoStream(f"{path}: there is no video in this file, only sound, pictures or text.")
    for stream in container.streams:
        if stream.index != videos[0].index:
            stream.discard = Discard.all
    if videos[0].codec_context is None:
        raise UnsupportedMedia(f"{path}: there is no decoder for its video. Convert it to H.264 first.")
    return videos[0]


def _check_codec(name: str, path: str) -> None:
    if name not in VIDEO_CODECS.split(","):
        raise ForbiddenMedia(
            f"{path}: video coded as {name} is not opened (allowed: {VIDEO_CODECS}). Convert it to H.264."
        )
