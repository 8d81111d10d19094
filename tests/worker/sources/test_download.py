import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable

CONTENT = bytes(range(256)) * 1200
"""300 kB: more than one read."""


def _redirect(to: str, status: int = 302) -> Callable[..., None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_a_file_is_written_hashed_and_counted(server, rules, content, send):
    server.answers["/a.mp4"] = send(CONTENT)
    told = []
    assert content(server.url("/a.mp4?q=1"), rules, lambda *how_far: told.append(how_far)) == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    (path, headers), *more = server.requests
    assert path == "/a.mp4?q=1"
    assert not more
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert headers["Range"] is headers["Authorization"] is None


def test_a_file_of_unannounced_size_ends_where_the_server_ends_it(server, rules, content, send):
    server.answers["/a"] = send(CONTENT, Content_Length=None)
    assert content(server.url("/a"), rules) == CONTENT


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.1", "0", "localhost", "127。0。0。1"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "10.0.0.1", "user@127.0.0.1"),
        *("[64:ff9b::7f00:1]", "example.org\\@127.0.0.1", "%6c%6f%63%61lhost@127.0.0.1"),
    ],
)
def test_without_leave_nothing_of_this_machine_or_network_is_reached(server, rules, content, host):
    with pytest.raises(SourceForbidden, match="no public address"):
        content(server.url("/a", host), replace(rules, allowed_networks=()))
    assert not server.requests


def test_circled_digits_are_no_way_round(server, rules, content):
    with pytest.raises((SourceForbidden, InvalidSource)):
        content(server.url("/a", "①②⑦.⓪.⓪.①"), replace(rules, allowed_networks=()))
    assert not server.requests


@pytest.mark.parametrize(
    "to", ["http://[::1]:{port}/a", "http://0x7f000002:{port}/a", "//10.0.0.1/a", "https://169.254.169.254/a"]
)
def test_a_redirect_is_checked_like_the_first_address(server, rules, content, to):
    only_this = replace(rules, allowed_networks=(type(rules.allowed_networks[0])("127.0.0.1/32"),))
    server.answers["/start"] = _redirect(to.format(port=server.server_port))
    with pytest.raises(SourceForbidden, match="no public address"):
        content(server.url("/start"), only_this)
    assert [path for path, _ in server.requests] == ["/start"]


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(
    server, rules, content, send, monkeypatch
):
    """A name that is harmless when it is checked may lead elsewhere when it is looked up again."""
    import socket

    genuine, asked = socket.getaddrinfo, []

    def look_up(host: str, port: int, *how: object, **more: object) -> list:
        if host != "changing.test":
            return genuine(host, port, *how, **more)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    server.answers["/a"] = send(CONTENT)
    assert content(server.url("/a", "changing.test"), rules) == CONTENT
    assert len(asked) == 1
    assert server.requests[0][1]["Host"] == f"changing.test:{server.server_port}"
    with pytest.raises(SourceForbidden):
        content(server.url("/a", "changing.test"), rules)


def test_the_next_address_is_tried_where_one_does_not_answer(server, rules, content, send, monkeypatch):
    monkeypatch.setattr("worker.sources.connections.resolve", lambda *_: ("127.0.0.9", "127.0.0.1"))
    server.answers["/a"] = send(CONTENT)
    assert content(server.url("/a"), rules) == CONTENT


def test_redirects_are_followed_but_not_for_ever(server, rules, content, send):
    server.answers |= {
        "/1": _redirect("2?x", 301),
        "/2": _redirect("/3", 307),
        "/3": _redirect(server.url("/4"), 308),
        "/4": send(CONTENT),
        "/loop": _redirect("/loop"),
        "/nowhere": send(status=302),
    }
    assert content(server.url("/1"), rules) == CONTENT
    with pytest.raises(InvalidSource, match="more than 3 times"):
        content(server.url("/loop"), rules)
    with pytest.raises(InvalidSource, match="nowhere"):
        content(server.url("/nowhere"), rules)


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/"])
def test_a_redirect_stays_with_http(server, rules, content, to):
    server.answers["/a"] = _redirect(to)
    with pytest.raises(SourceForbidden, match="kind of source"):
        content(server.url("/a"), rules)


def test_a_redirect_to_no_url_is_refused(server, rules, content):
    server.answers["/a"] = _redirect("http://[::1/")
    with pytest.raises(InvalidSource, match="no URL"):
        content(server.url("/a"), rules)


def test_the_password_is_for_the_server_it_was_given_for(server, other_server, rules, content, send):
    server.answers |= {"/a": _redirect("/b"), "/b": _redirect(other_server.url("/c"))}
    other_server.answers["/c"] = send(CONTENT)
    assert content(server.url("/a", "us%40er:pass@127.0.0.1"), rules) == CONTENT
    assert [headers["Authorization"] for _, headers in server.requests] == ["Basic dXNAZXI6cGFzcw=="] * 2
    assert other_server.requests[0][1]["Authorization"] is None


def test_messages_keep_secrets(server, rules, content, send):
    server.answers |= {
        "/none": send(status=404),
        "/busy": send(status=503),
        "/loop": _redirect("/loop?SECRET"),
    }
    urls = [server.url(f"/{path}?token=SECRET#SECRET", "SECRET:SECRET@127.0.0.1") for path in server.answers]
    urls += ["http://user:SEC/RET@host/", "http://user:SECRET@[/", "http://SECRET:SECRET@", "https:///SECRET"]
    urls += ["http://u:SECRET@10.0.0.1/?SECRET", "http://u:SECRET@127.0.0.1:1/?SECRET"]
    for url in urls:
        with pytest.raises((InvalidSource, SourceUnavailable, SourceForbidden)) as caught:
            content(url, rules)
        assert not re.search("SEC|RET", str(caught.value)), url


def test_what_is_sent_compressed_is_refused(server, rules, content, send):
    server.answers |= {
        "/a": send(gzip.compress(CONTENT), Content_Encoding="gzip"),
        "/b": send(CONTENT, Content_Encoding="identity"),
    }
    with pytest.raises(InvalidSource, match="compressed"):
        content(server.url("/a"), rules)
    assert content(server.url("/b"), rules) == CONTENT


def test_no_proxy_of_the_environment_is_used(server, rules, content, send, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answers["/a"] = send(CONTENT)
    assert content(server.url("/a"), rules) == CONTENT


def test_what_is_raised_by_the_progress_ends_the_work_at_once(server, rules, content, send, scratch):
    class Enough(Exception):
        pass

    def stop(*_: object) -> None:
        raise Enough

    server.answers["/a"] = send(CONTENT)
    with pytest.raises(Enough):
        content(server.url("/a"), rules, stop)
    assert len(server.requests) == 1
    assert not list((scratch.folder / "partial").iterdir())


@pytest.mark.parametrize(
    "url",
    ["http://", "http:a", "https://host:port/", "http://[::1/", "http://h\nost/", "http://" + "a" * 64 + "/"],
)
def test_what_is_no_url_is_refused(rules, content, url):
    with pytest.raises(InvalidSource, match="URL"):
        content(url, rules)
