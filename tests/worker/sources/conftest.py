"""A web server of the test's own, scratch space, and rules that let both be used."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from threading import Thread

import pytest

from worker.sources import download
from worker.sources.rules import Progress, SourceRules
from worker.sources.scratch import Scratch

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers each path as told, and keeps the headers of all requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, Message]] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers))
        self.server.answers[self.path.partition("?")[0]](self)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _serving() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with _serving() as started:
        yield started


@pytest.fixture
def other_server() -> Iterator[Server]:
    with _serving() as started:
        yield started


@pytest.fixture
def rules() -> SourceRules:
    """Loopback may be connected to. What has to end in time says so itself: a test machine may be slow."""
    return SourceRules(
        roots=(),
        allowed_networks=(ip_network("127.0.0.0/8"),),
        max_bytes=1 << 20,
        max_seconds=60,
        stall_seconds=30,
        max_redirects=3,
        attempts=3,
    )


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path / "scratch", 4 << 20)


@pytest.fixture
def content(scratch: Scratch) -> Callable[..., bytes]:
    """Downloads, and gives what has been written: `content(url, rules)`."""

    def get(url: str, rules: SourceRules, progress: Progress | None = None) -> bytes:
        with scratch.partial(rules.max_bytes) as partial:
            download.download(url, rules, partial, progress)
            written = partial.path.read_bytes()[: partial.size]
            assert partial.sha256 == hashlib.sha256(written).hexdigest()
        return written

    return get


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.001)


@pytest.fixture
def send() -> Callable[..., Answer]:
    """Makes an answer: `send(b"…", status=200, ETag='"a"')`, with its length, unless given."""

    def make(body: bytes = b"", status: int = 200, **headers: str | int | None) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Content-Length": len(body), **named}

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in sent.items():
                if value is not None:
                    handler.send_header(name, str(value))
            handler.end_headers()
            handler.wfile.write(body)

        return answer

    return make


@pytest.fixture
def in_turn() -> Callable[..., Answer]:
    """Makes an answer that is another one each time, and the last one from then on."""

    def make(*answers: Answer) -> Answer:
        left = list(answers)
        return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)

    return make
