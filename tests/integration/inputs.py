"""What producers may send: videos that are odd, and all that is none. Each with what is to become of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np

from tests.vm.video import made
from tests.vm.video.conftest import write_video

MOST_BYTES = 3_000_000  # of a download
DECODER_BYTES = 100_000_000
HUGE = 4096  # pixels a side of a picture that takes more than that
FRAMES = range(20)


@dataclass
class Place:
    """Where inputs are put: a media folder and a web server, with another folder out of bounds."""

    folder: Path
    elsewhere: Path
    web: str = ""
    asked: set[str] = field(default_factory=set)

    def path(self, name: str) -> Path:
        return self.folder / name

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """The web server: files of the folder, and what servers do to those who ask."""
        self.asked.add(request.path)
        deed = _DEEDS.get(request.path)
        if deed:
            deed(request)
            return
        data = self.path(request.path[1:]).read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)


def _to(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def redirect(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", address)
        request.end_headers()

    return redirect


def _bytes(chunk: bytes, pause: float) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while chunk or pause:
            request.wfile.write(chunk)
            time.sleep(pause)

    return send


_DEEDS = {
    "/inside": _to("http://127.0.0.2/a.mp4"),
    "/cloud": _to("http://169.254.169.254/latest/meta-data"),
    "/file": _to("file:///etc/hostname"),
    "/silent": _bytes(b"", 0.2),
    "/drips": _bytes(b"G", 0.2),
    "/endless": _bytes(bytes(1 << 16), 0.0),
}


@dataclass(frozen=True)
class Input:
    """Attributes:
    make: puts it into a place under a name, and gives its URI.
    code: of the error it ends with; None where it is fine.
    told: what its error says; or its warning, where it is fine.
    """

    make: Callable[[Place, str], object]
    code: str | None = None
    told: str = ""


def _file(write: made.Writer, ending: str = "mp4") -> Callable[[Place, str], object]:
    return lambda place, name: write(place.path(f"{name}.{ending}"))


def _text(text: str, ending: str = "mp4") -> Callable[[Place, str], object]:
    return _file(made.content(text.encode()), ending)


def _video(ending: str = "mp4", **recipe: object) -> Callable[[Place, str], object]:
    return _file(lambda path: write_video(path, **{"times": FRAMES, **recipe}), ending)


def _cut(path: Path) -> Path:
    write_video(path, grain=40)
    return made.content(path.read_bytes()[:20_000])(path)


def _flipped(path: Path) -> Path:
    write_video(path, times=range(50), grain=40)
    return made.content(made.flipped(path.read_bytes()))(path)


def _claiming(seconds: float) -> made.Writer:
    return lambda path: made.with_duration(write_video(path, times=FRAMES), seconds)


def _joined(path: Path) -> Path:
    small = write_video(path.with_name("small.ts"), container="mpegts", times=FRAMES)
    large = write_video(path.with_name("large.ts"), container="mpegts", times=FRAMES, size=(128, 96))
    return made.content(small.read_bytes() + large.read_bytes())(path)


def _linked(place: Place, name: str) -> Path:
    path = place.path(name)
    path.symlink_to(write_video(place.elsewhere / f"{name}.mp4", times=FRAMES))
    return path


def _listed(kind: str, ending: str) -> Callable[[Place, str], object]:
    """A playlist that leads to the server, on which nobody may ask for it."""
    return lambda place, name: _text(made.playlist(kind, f"{place.web}/listed"), ending)(place, name)


def _served(path: str) -> Callable[[Place, str], object]:
    return lambda place, name: f"{place.web}/{path}"


def _is(uri: str) -> Callable[[Place, str], object]:
    return lambda place, name: uri


_MUCH_NOISE = np.random.default_rng(0).bytes(100_000)
_FORMATS = "not one of the formats"
_UP = 12  # folders that a media folder is certainly no deeper

ODD = {
    "flipped bytes": Input(_file(_flipped), told="damaged or missing frames"),
    "duration 1e15": Input(_file(_claiming(1e15), "mkv")),
    "duration NaN": Input(_file(_claiming(float("nan")), "mkv")),
    "begins late": Input(_video("ts", container="mpegts", times=range(225_000_000, 225_000_020))),
    "begins before 0": Input(
        _video("mkv", times=range(-5, 15), container_options={"avoid_negative_ts": "disabled"})
    ),
    "two sizes": Input(_file(_joined, "ts")),
    "over the web": Input(lambda place, name: (_video()(place, "web"), f"{place.web}/web.mp4")[1]),
}
BAD = {
    "zeros": Input(_file(made.content(bytes(100_000))), "unsupported_media"),
    "noise": Input(_file(made.content(_MUCH_NOISE)), "unsupported_media"),
    "HTML": Input(_text("<!doctype html><html><body>Not found</body></html>" * 50), "unsupported_media"),
    "truncated": Input(_file(_cut), "unsupported_media", "truncated"),
    "sound only": Input(_file(made.sound_only), "no_video_stream"),
    "sound and its cover": Input(_file(made.cover_art), "no_video_stream"),
    "script": Input(_text(made.playlist("ffconcat", "/etc/hostname")), "forbidden_media", _FORMATS),
    "playlist of a file": Input(_text(made.playlist("hls", "/etc/hostname"), "m3u8"), "forbidden_media"),
    "playlist of an address": Input(_listed("hls", "m3u8"), "forbidden_media"),
    "endless playlist": Input(_listed("endless hls", "m3u8"), "forbidden_media"),
    "protocol": Input(_is("concat:/etc/hostname|/etc/hosts"), "source_forbidden", "concat: sources"),
    "camera": Input(_is("rtsp://127.0.0.1/stream"), "source_forbidden", "rtsp: sources"),
    "redirect inside": Input(_served("inside"), "source_forbidden"),
    "redirect to the cloud": Input(_served("cloud"), "source_forbidden"),
    "redirect to a file": Input(_served("file"), "source_forbidden"),
    "address in disguise": Input(_is("http://[::ffff:127.0.0.1]/a.mp4"), "source_forbidden"),
    "16000 pixels": Input(_file(lambda path: made.png(path, 16_000)), "frame_too_large"),
    "50000 pixels": Input(_file(lambda path: made.png(path, 50_000)), "frame_too_large"),
    "wide": Input(_video(size=(16384, 128), times=range(2)), "frame_too_large"),
    "bomb": Input(
        _file(lambda path: made.png(path, HUGE, 16, made.RGBA)), "decoder_crashed", "more memory than"
    ),
    "silent": Input(_served("silent"), "source_unavailable", "longer than"),
    "dripping": Input(_served("drips"), "source_unavailable", "longer than"),
    "endless": Input(_served("endless"), "source_too_large"),
    "a day and a half": Input(
        _video("mkv", times=(0, 25 * 45_000, 25 * 90_000)), "unsupported_media", "over the limit"
    ),
    "pipe": Input(_file(made.pipe), "invalid_source", "not a regular file"),
    "folder": Input(_file(made.folder), "invalid_source", "not a regular file"),
    "missing": Input(_file(lambda path: path), "invalid_source", "No such file"),
    "empty": Input(_file(made.content(b"")), "invalid_source", "empty"),
    "codec": Input(_video("avi", codec="magicyuv", options={}), "forbidden_media", "magicyuv"),
    "link outwards": Input(_linked, "source_forbidden", "media folders"),
    "path outwards": Input(lambda place, name: place.path(f"{_UP * '../'}etc/hostname"), "source_forbidden"),
    "path outwards, quoted": Input(
        lambda place, name: f"file://{place.folder}/{_UP * '%2e%2e/'}etc/hostname", "source_forbidden"
    ),
}
