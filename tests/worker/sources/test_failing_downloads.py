"""Servers that send too much, too slowly, not all of it, or something else than before."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from threading import Event

import pytest

from vm.errors import InvalidSource
from worker.errors import SourceTooLarge, SourceUnavailable

CONTENT = bytes(range(256)) * 1200
"""300 kB: more than one read."""
TAG = '"first"'


def _broken(after: int, content: bytes = CONTENT, **headers: str) -> Callable[..., None]:
    """Announces all of the content and hangs up after some of it."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.close_connection = True

    return answer


def _rest(content: bytes = CONTENT, tag: str = TAG, **changed: str) -> Callable[..., None]:
    """Sends what a Range asks for."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "ETag": tag}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start:])

    return answer


def _dripping(first: bytes, drop: bytes) -> Callable[..., None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        with suppress(OSError):
            for _ in range(1000):
                handler.wfile.write(drop)
                time.sleep(0.02)

    return answer


def test_too_much_is_refused_announced_or_not(server, rules, content, send):
    server.answers |= {"/said": send(CONTENT), "/unsaid": send(CONTENT, Content_Length=None)}
    small = replace(rules, max_bytes=len(CONTENT) - 1)
    told = []
    with pytest.raises(SourceTooLarge, match=str(len(CONTENT) - 1)):
        content(server.url("/said"), small, lambda *how_far: told.append(how_far))
    assert not told
    with pytest.raises(SourceTooLarge):
        content(server.url("/unsaid"), small)
    assert len(server.requests) == 2
    assert content(server.url("/unsaid"), replace(rules, max_bytes=len(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
)
def test_a_server_that_drips_ends_with_the_time(server, rules, content, first, drop):
    server.answers["/a"] = _dripping(first, drop)
    begin = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"longer than 0\.3 s"):
        content(server.url("/a"), replace(rules, max_seconds=0.3))
    assert time.monotonic() - begin < 10, "the server would go on for 20 s"
    assert len(server.requests) <= 1


def test_a_server_that_falls_silent_is_given_up(server, rules, content):
    finished = Event()
    server.answers["/a"] = lambda handler: finished.wait(60)
    with pytest.raises(SourceUnavailable, match="timed out"):
        content(server.url("/a"), replace(rules, stall_seconds=0.1, attempts=2))
    finished.set()


@pytest.mark.parametrize(
    "known",
    [{"ETag": TAG, "Last_Modified": "then"}, {"Last_Modified": TAG}, {"ETag": "W/x", "Last_Modified": TAG}],
)
def test_what_broke_off_is_resumed(server, rules, content, in_turn, known):
    server.answers["/a"] = in_turn(_broken(100_000, **known), _rest())
    assert content(server.url("/a"), rules) == CONTENT
    _, (_, resumed) = server.requests
    assert resumed["Range"] == "bytes=100000-"
    assert resumed["If-Range"] == TAG


def test_a_server_may_send_the_rest_in_pieces(server, rules, content, in_turn):
    piece = _rest(CONTENT[:200_000], Content_Range=f"bytes 100000-199999/{len(CONTENT)}")
    server.answers["/a"] = in_turn(_broken(100_000, ETag=TAG), piece, _rest())
    assert content(server.url("/a"), rules) == CONTENT
    assert server.requests[-1][1]["Range"] == "bytes=200000-"


def test_without_a_way_to_know_the_file_again_it_is_begun_anew(server, rules, content, send, in_turn):
    server.answers["/a"] = in_turn(_broken(100_000, ETag="W/weak"), send(CONTENT))
    assert content(server.url("/a"), rules) == CONTENT
    assert server.requests[1][1]["Range"] is None


def test_a_file_that_has_changed_is_begun_anew(server, rules, content, send, in_turn):
    changed = CONTENT[::-1][:-7]
    server.answers["/a"] = in_turn(_broken(100_000, ETag=TAG), send(changed))
    assert content(server.url("/a"), rules) == changed


@pytest.mark.parametrize(
    "wrong",
    [
        {"Content_Range": f"bytes 99999-{len(CONTENT) - 1}/{len(CONTENT)}"},
        {"Content_Range": f"bytes 100000-{len(CONTENT)}/{len(CONTENT) + 1}"},
        {"Content_Range": "bytes */5"},
        {"ETag": '"second"'},
    ],
)
def test_a_rest_that_does_not_fit_is_thrown_away(server, rules, content, send, in_turn, wrong):
    server.answers["/a"] = in_turn(_broken(100_000, ETag=TAG), _rest(**wrong), send(CONTENT))
    assert content(server.url("/a"), rules) == CONTENT
    assert server.requests[2][1]["Range"] is None


def test_a_rest_longer_than_the_file_is_thrown_away(server, rules, content, send, in_turn):
    longer = _rest(CONTENT + b"more", Content_Range=f"bytes 100000-{len(CONTENT) - 1}/{len(CONTENT)}")
    server.answers["/a"] = in_turn(_broken(100_000, ETag=TAG), longer, send(CONTENT))
    assert content(server.url("/a"), rules) == CONTENT


def test_a_file_that_has_become_shorter_is_begun_anew(server, rules, content, send, in_turn):
    server.answers["/a"] = in_turn(_broken(100_000, ETag=TAG), send(status=416), send(b"short"))
    assert content(server.url("/a"), rules) == b"short"


def test_a_server_that_promises_more_than_it_has_is_given_up(server, rules, content, send):
    server.answers["/a"] = _broken(100_000)
    with pytest.raises(SourceUnavailable, match="Try again later"):
        content(server.url("/a"), rules)
    assert len(server.requests) == rules.attempts


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again_and_then_given_up(server, rules, content, send, in_turn, status):
    server.answers |= {"/a": in_turn(send(status=status), send(CONTENT)), "/b": send(status=status)}
    assert content(server.url("/a"), rules) == CONTENT
    with pytest.raises(SourceUnavailable, match=f"answers {status}"):
        content(server.url("/b"), rules)
    assert len(server.requests) == 2 + rules.attempts


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        *((400, "GET"), (401, "password"), (403, "password"), (404, "address"), (410, "address")),
        *((416, "GET"), (204, "GET"), (206, "GET"), (304, "GET")),
    ],
)
def test_what_stays_wrong_is_not_asked_for_again(server, rules, content, send, status, advice):
    server.answers["/a"] = send(status=status, Content_Length=None)
    with pytest.raises(InvalidSource, match=f"answers {status}: .*{advice}"):
        content(server.url("/a"), rules)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [b"\0\1\2 nonsense\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"]
)
def test_an_answer_that_is_no_http_may_pass(server, rules, content, answer):
    server.answers["/a"] = lambda handler: handler.wfile.write(answer)
    with pytest.raises(SourceUnavailable, match="Try again later"):
        content(server.url("/a"), rules)
    assert len(server.requests) == rules.attempts


def test_a_server_that_is_away_may_come_back(rules, content):
    with pytest.raises(SourceUnavailable, match="refused"):
        content("http://127.0.0.1:1/a", rules)
