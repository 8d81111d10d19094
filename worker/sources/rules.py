"""What may be read, from where, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

Network = IPv4Network | IPv6Network

Progress = Callable[[int, int | None], None]
"""Told how many bytes there are by now, and how many there will be, where that is known."""


@dataclass(frozen=True)
class SourceRules:
    """The operator's limits on sources.

    Attributes:
        roots: local files may lie only in these folders; () refuses all local files. None allows every
            file this process can read: for one's own user, never for what others ask.
        allowed_networks: addresses that may be connected to though they are not public: cameras, a
            file server.
        max_bytes: the most a download may have.
        max_seconds: the longest a whole download may take, with all its attempts.
        stall_seconds: the longest wait for a connection, or for the next byte.
        max_redirects: how many redirects are followed.
        attempts: how often a download is begun or resumed.
    """

    roots: tuple[Path, ...] | None = ()
    allowed_networks: tuple[Network, ...] = ()
    max_bytes: int = 20 << 30
    max_seconds: float = 3600.0
    stall_seconds: float = 30.0
    max_redirects: int = 5
    attempts: int = 5
