"""What a process is called where it holds a lease."""

from __future__ import annotations

import os
import socket
import uuid
from functools import cache


@cache
def name() -> str:
    """Host, process and a part that no later process of the same number has."""
    return f"{prefix(os.getpid())}{uuid.uuid4().hex[:8]}"


def prefix(pid: int) -> str:
    """What the names of a process of this host, seen from here, begin with."""
    return f"{_here()}{pid}:"


def is_dead(name: str) -> bool:
    """Whether a name belongs to a process of this host that is certainly gone."""
    if not name.startswith(_here()):
        return False
    try:
        os.kill(int(name.removeprefix(_here()).partition(":")[0]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except (PermissionError, ValueError):
        return False
    return False


@cache
def _here() -> str:
    """The host, and the space its process numbers are of: containers may share the former alone."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()[:100]}:{space.strip('pid:[]')}:"
