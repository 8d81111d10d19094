"""Copies a file from an HTTP server: checked at every hop, bounded in bytes and time, resumed where it broke.

Each attempt begins at the URL that was asked for, and asks for the bytes that are missing, provided the
file is still the one the first bytes came from. What the server says is believed as little as possible.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import httpcore2
import httpx2

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources.connections import CheckedBackend, Deadline
from worker.sources.rules import Progress, SourceRules
from worker.sources.scratch import Partial

FIRST_PAUSE = 0.5
"""Seconds between the first attempt and the second; twice as long each time."""

_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)
"""What a server may answer in the 400s that another time it does not."""
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


def download(url: str, rules: SourceRules, partial: Partial, progress: Progress | None = None) -> None:
    """Writes what an `http:` or `https:` URL names into `partial`.

    Proxies that the environment names are not used: they would connect where they like.

    Raises:
        SourceForbidden: an address or a redirect that is not allowed.
        SourceTooLarge: more bytes than the rules or the scratch space allow, announced or sent.
        SourceUnavailable: no answer, or none that is complete, in the attempts and the time allowed.
        InvalidSource: the URL is malformed, or the server has no file there for us.
    """
    deadline = Deadline.after(rules.max_seconds)
    transfer = _Transfer(parse(url), rules, partial, progress)
    with httpcore2.ConnectionPool(
        network_backend=CheckedBackend(rules.allowed_networks, deadline), http2=False
    ) as pool:
        for attempt in count(1):
            try:
                return transfer.attempt(pool)
            except SourceUnavailable:
                deadline.within(None)
                if attempt >= rules.attempts:
                    raise
            deadline.sleep(FIRST_PAUSE * 2 ** (attempt - 1))


def shown(url: httpx2.URL) -> str:
    """The URL without what may be secret in it: user, password and query."""
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path[:200]}"


class _Transfer:
    """One file on its way: where it comes from, how much there is, and how to know it again.

    Attributes:
        total: bytes in all, as announced; None: not announced.
        validator: what the server calls this state of the file, in which header; None: it does not say,
            so what was begun cannot be resumed.
    """

    def __init__(
        self, url: httpx2.URL, rules: SourceRules, partial: Partial, progress: Progress | None
    ) -> None:
        self.total: int | None = None
        self.validator: tuple[str, str] | None = None
        self._url = url
        self._rules = rules
        self._partial = partial
        self._progress = progress

    def attempt(self, pool: httpcore2.ConnectionPool) -> None:
        """Fetches what is missing; raises as `download`."""
        if self.validator is None:
            self._restart()
        with failures_of(self._url), self._response(pool) as response:
            self._accept(response)
            for chunk in response.iter_stream():
                self._partial.write(chunk)
                if self._progress is not None:
                    self._progress(self._partial.size, self.total)
        if self.total not in (None, self._partial.size):
            sent = f"{self._partial.size} of {self.total} bytes"
            if self._partial.size > (self.total or 0):
                self._restart()
            raise SourceUnavailable(f"{shown(self._url)} sent {sent}: try again later")

    @contextmanager
    def _response(self, pool: httpcore2.ConnectionPool) -> Iterator[httpcore2.Response]:
        """The first answer that is no redirect."""
        url = self._url
        for _ in range(self._rules.max_redirects + 1):
            with self._ask(pool, url) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _follow(url, _header(response, "location"))
        raise InvalidSource(
            f"{shown(self._url)} redirects more than {self._rules.max_redirects} times: "
            "give the address it leads to"
        )

    @contextmanager
    def _ask(self, pool: httpcore2.ConnectionPool, url: httpx2.URL) -> Iterator[httpcore2.Response]:
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        patience = dict.fromkeys(("connect", "read", "write", "pool"), self._rules.stall_seconds)
        with pool.stream(
            "GET", target, headers=self._headers(url), extensions={"timeout": patience}
        ) as response:
            yield response

    def _headers(self, url: httpx2.URL) -> list[tuple[bytes, bytes]]:
        # What is compressed on the way cannot be bounded or resumed by its announced size.
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "videomind-worker",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
        if self._url.userinfo and _origin(url) == _origin(self._url):
            login = f"{self._url.username}:{self._url.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
        if self._partial.size and self.validator is not None:
            headers["Range"] = f"bytes={self._partial.size}-"
            headers["If-Range"] = self.validator[1]
        return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]

    def _accept(self, response: httpcore2.Response) -> None:
        """Gets ready for the answer's content: at its beginning, or where the last attempt ended.

        Raises:
            SourceUnavailable: the server cannot answer now, or cannot go on where we ended.
            InvalidSource: it has no file for us.
            SourceTooLarge: it announces more than is allowed.
        """
        self._check_status(response.status)
        encoding = _header(response, "content-encoding") or "identity"
        if encoding.lower() != "identity":
            raise InvalidSource(f"{shown(self._url)} is sent compressed: have it served as it is")
        if response.status == 206:
            self._check_continuation(response)
        else:
            self._restart()
            self.total = _length(response)
            self.validator = _validator(response)
        if self.total is not None:
            self._partial.reserve(self.total)

    def _check_status(self, status: int) -> None:
        resuming = self._partial.size > 0
        if status == 200 or (status == 206 and resuming):
            return
        if status >= 500 or status in _PASSING:
            raise SourceUnavailable(f"{shown(self._url)} answers {status}: try again later")
        if status == 416 and resuming:
            self._restart()
            raise SourceUnavailable(f"{shown(self._url)} has become shorter: try again")
        raise InvalidSource(f"{shown(self._url)} answers {status}: {_advice(status)}")

    def _check_continuation(self, response: httpcore2.Response) -> None:
        """Whether this is the rest of the same file; if not, the next attempt begins anew."""
        found = _CONTENT_RANGE.fullmatch(_header(response, "content-range") or "")
        name, value = self.validator or ("", "")
        same = _header(response, name) in (None, value)
        if found is not None and found[2] != "*":
            same = same and self.total in (None, int(found[2]))
            self.total = int(found[2])
        if found is None or int(found[1]) != self._partial.size or not same:
            self._restart()
            raise SourceUnavailable(f"{shown(self._url)} changed on the way: try again")

    def _restart(self) -> None:
        self._partial.restart()
        self.total = self.validator = None


def parse(url: str) -> httpx2.URL:
    """The parts of a URL. Raises InvalidSource: it is none, or names no host."""
    # What the parser says may quote a password, so it is not passed on.
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidSource("this is no URL: write it like https://host/folder/video.mp4") from None
    if not parsed.raw_host:
        raise InvalidSource("the URL names no host: write it like https://host/folder/video.mp4")
    return parsed


def _follow(url: httpx2.URL, location: str | None) -> httpx2.URL:
    """Where a redirect leads. Its address is checked when it is connected to, as every other."""
    if not location:
        raise InvalidSource(f"{shown(url)} redirects to nowhere: give the address of the file itself")
    try:
        following = url.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidSource(f"{shown(url)} redirects to something that is no URL") from None
    if following.scheme not in ("http", "https") or not following.raw_host:
        raise SourceForbidden(f"{shown(url)} redirects to a kind of source that is not allowed there")
    return following


def _origin(url: httpx2.URL) -> tuple[str, bytes, int | None]:
    """Who may see the password: the server it was given for. (The default port is always None.)"""
    return url.scheme, url.raw_host, url.port


def _header(response: httpcore2.Response, name: str) -> str | None:
    for key, value in response.headers:
        if key.lower() == name.encode():
            return value.decode("latin-1").strip()
    return None


def _length(response: httpcore2.Response) -> int | None:
    """The announced size in bytes. It means nothing if the content comes in chunks."""
    length = _header(response, "content-length") or ""
    if _header(response, "transfer-encoding") is not None or not re.fullmatch(r"[0-9]{1,18}", length):
        return None
    return int(length)


def _validator(response: httpcore2.Response) -> tuple[str, str] | None:
    """What to send as If-Range: a strong tag, else the date. A weak tag promises no equal bytes."""
    tag, date = _header(response, "etag"), _header(response, "last-modified")
    if tag is not None and _STRONG_TAG.fullmatch(tag):
        return "etag", tag
    return None if date is None else ("last-modified", date)


def _advice(status: int) -> str:
    if status in (401, 403, 407):
        return "check that it may be read with this address, user and password"
    if status in (404, 410):
        return "check the address"
    return "give the address of a file that can be read with GET"


@contextmanager
def failures_of(url: httpx2.URL) -> Iterator[None]:
    """What goes wrong on the wire, as our errors."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.RemoteProtocolError) as error:
        reason = str(error)[:200] or "no answer in time"
        raise SourceUnavailable(f"{shown(url)} cannot be read: {reason}. Try again later") from error
    except (httpcore2.LocalProtocolError, UnicodeError) as error:
        raise InvalidSource(f"{shown(url)} cannot be asked for: check the address") from error
