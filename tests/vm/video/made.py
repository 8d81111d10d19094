"""Files that are no videos, or none that may be opened."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

Writer = Callable[[Path], Path]
"""Makes the file at a path, and gives where it is."""

GRAY, RGBA = 0, 6  # kinds of PNG


def png(path: Path, side: int, depth: int = 1, kind: int = GRAY) -> Path:
    """A black, square picture; only up to 16000 pixels a side is it filled in."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    row = side * depth * (4 if kind == RGBA else 1) // 8 + 1
    rows = zlib.compress(bytes(row * min(side, 16_000)), 1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        for place in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts = 44100, place * 1024
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def cover_art(path: Path) -> Path:
    sound_only(path)
    with_cover = path.with_name("cover.mp4")
    with av.open(str(path)) as sound, av.open(str(with_cover), "w") as out:
        copy = out.add_stream_from_template(sound.streams.audio[0], opaque=True)
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.mux(cover.encode(av.VideoFrame(64, 64, "yuvj420p")))
        out.mux(cover.encode(None))
        for packet in sound.demux(sound.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    return with_cover


def content(data: bytes) -> Writer:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def playlist(kind: str, target: object) -> str:
    """A script that has the reader open another file or address."""
    return {
        "ffconcat": f"ffconcat version 1.0\nfile {target}\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n",
        "endless hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n",
    }[kind]


def flipped(data: bytes) -> bytes:
    """A file's bytes, one in a hundred of the middle third changed."""
    changed = bytearray(data)
    for place in range(len(data) // 3, 2 * len(data) // 3, 97):
        changed[place] ^= 0xFF
    return bytes(changed)


def with_duration(path: Path, seconds: float) -> Path:
    """Has the header of a Matroska file claim another length."""
    data = bytearray(path.read_bytes())
    field = data.index(b"\x44\x89\x88") + 3
    data[field : field + 8] = struct.pack(">d", seconds)
    path.write_bytes(data)
    return path
