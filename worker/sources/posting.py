"""Sends a JSON document to a URL that a stranger gave: only to addresses that may be connected to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpcore2
import httpx2

from worker.errors import SourceUnavailable
from worker.sources.connections import CheckedBackend, Deadline
from worker.sources.download import failures_of, parse, shown
from worker.sources.rules import SourceRules


def post(url: str, body: dict[str, Any], rules: SourceRules) -> None:
    """Sends `body`, as `send` does."""
    send(url, encoded(body), rules)


def encoded(body: dict[str, Any]) -> bytes:
    """The JSON that is sent."""
    return json.dumps(body, ensure_ascii=False).encode()


def send(url: str, content: bytes, rules: SourceRules, headers: Mapping[str, str] | None = None) -> None:
    """Sends JSON; whatever the receiver says beyond "received" (2xx) is not listened to.

    Redirects are not followed: what was meant for one receiver is not for another.

    Args:
        headers: beside those that every such request has.

    Raises:
        SourceForbidden: an address that is not allowed.
        SourceUnavailable: no answer in time, or one that is no 2xx.
        InvalidSource: the URL is malformed.
    """
    target = parse(url)
    backend = CheckedBackend(rules.allowed_networks, Deadline.after(rules.max_seconds))
    address = httpcore2.URL(
        scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path
    )
    patience = dict.fromkeys(("connect", "read", "write", "pool"), rules.stall_seconds)
    with (
        failures_of(target),
        httpcore2.ConnectionPool(network_backend=backend, http2=False) as pool,
        pool.stream(
            "POST",
            address,
            headers=_headers(target, len(content), headers or {}),
            content=content,
            extensions={"timeout": patience},
        ) as response,
    ):
        status = response.status
    if not 200 <= status < 300:
        raise SourceUnavailable(f"{shown(target)} answers {status}")


def _headers(target: httpx2.URL, length: int, more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    headers = {
        "Host": target.netloc.decode("ascii"),
        "User-Agent": "videomind-worker",
        "Content-Type": "application/json",
        "Content-Length": str(length),
        **more,
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
