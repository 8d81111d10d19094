"""Connections that go only where the rules allow, and end in time. For HTTP, whatever is sent over it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore2

from worker.errors import SourceUnavailable
from worker.sources.addresses import resolve
from worker.sources.rules import Network


@dataclass(frozen=True)
class Deadline:
    """When a piece of work must have ended, on the monotonic clock.

    Attributes:
        seconds: how long the work was given.
    """

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    def within(self, seconds: float | None) -> float:
        """So many seconds, or what is left where that is less.

        Raises:
            SourceUnavailable: nothing is left.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise SourceUnavailable(
                f"the source took longer than {self.seconds:g} s: try again later, "
                "or have the operator raise the time limit"
            )
        return left if seconds is None else min(left, seconds)

    def sleep(self, seconds: float) -> None:
        """Waits so long; raises as `within` where that would be too long."""
        time.sleep(self.within(seconds))
        self.within(None)


class CheckedBackend(httpcore2.NetworkBackend):
    """Looks a host up, and connects to an address that was found permitted, without a second look-up.

    TLS still checks the certificate against the host's name. A time limit on every single read would
    not end a server that drips, so all reads and writes share the deadline too.
    """

    def __init__(self, allowed: Sequence[Network], deadline: Deadline) -> None:
        self._allowed = allowed
        self._deadline = deadline
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Tries the permitted addresses one after another.

        Raises:
            SourceForbidden, SourceUnavailable, InvalidSource: as `resolve` and `Deadline.within`.
            httpcore2.ConnectError, httpcore2.ConnectTimeout: no address answers.
        """
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in resolve(host, port, self._allowed):
            try:
                stream = self._plain.connect_tcp(
                    address, port, self._deadline.within(timeout), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failure


class _TimedStream(httpcore2.NetworkStream):
    """A stream of which no operation outlasts the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.within(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.within(timeout))
        return _TimedStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
