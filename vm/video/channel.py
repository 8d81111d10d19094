"""JSON headers, their length before them, and raw bytes, over a socket: nothing that could be executed."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

# A decoder that could not get the memory it asked for leaves with this exit status.
OUT_OF_MEMORY = 12

_LENGTH_BYTES = 4
_LONGEST = 1 << 24


class Channel:
    """One end of a conversation. Not for two threads at a time.

    Raises:
        TimeoutError: the time that was allowed is up.
        EOFError, OSError: nobody is at the other end any more.
        ValueError: what came is not a header.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._until: float | None = None

    def allow(self, seconds: float) -> None:
        """All that is sent and received from now on must be done after so many seconds."""
        self._until = time.monotonic() + seconds

    def send(self, header: dict[str, Any], body: memoryview | bytes = b"") -> None:
        text = json.dumps(header).encode()
        self._hurry()
        self._socket.sendall(len(text).to_bytes(_LENGTH_BYTES) + text)
        self._hurry()
        self._socket.sendall(body)

    def receive(self, longest: int = _LONGEST) -> dict[str, Any]:
        """The next header, of at most `longest` bytes."""
        size = int.from_bytes(self._exactly(_LENGTH_BYTES))
        if size > longest:
            raise ValueError(f"a header of {size} bytes, where {longest} are the most")
        try:
            header = json.loads(self._exactly(size))
        except RecursionError as error:
            raise ValueError("a header nested without end") from error
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        return header

    def fill(self, buffer: memoryview) -> None:
        """Receives as many bytes as `buffer` has."""
        while buffer:
            self._hurry()
            received = self._socket.recv_into(buffer)
            if not received:
                raise EOFError("the other end is closed")
            buffer = buffer[received:]

    def close(self) -> None:
        self._socket.close()

    def _exactly(self, size: int) -> bytearray:
        received = bytearray(size)
        self.fill(memoryview(received))
        return received

    def _hurry(self) -> None:
        """Lets the next operation take what is left of the time."""
        if self._until is None:
            return
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left")
        self._socket.settimeout(left)
