"""What a process gives up before it touches a file that nobody vouches for. Linux has the most to give up."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

from vm.video.limits import Cage

_ON_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# Seconds of computing between the signal that ends a process over its limit and the kernel's last word.
_LAST_WORD = 5
# Where memory runs out altogether, a decoder is to go before the process that it works for.
_FIRST_TO_GO = "800"


def end_with_parent(parent: int, number: signal.Signals) -> None:
    """Has the kernel send a signal when the parent process, or the thread of it that started us, is gone.

    Elsewhere than on Linux a process must notice by itself that nobody talks to it any more.
    """
    if _ON_LINUX:
        _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # gone already
        os._exit(0)


def confine(cage: Cage) -> None:
    """Gives up rights and resources for good."""
    os.nice(cage.niceness)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    if _ON_LINUX:
        with suppress(OSError):  # where containers forbid it, another process may have to go
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        # Not RLIMIT_AS: that counts what is only mapped or reserved, and allocators reserve a lot.
        _bound(resource.RLIMIT_DATA, _data_bytes() + cage.memory_bytes)
    _bound(resource.RLIMIT_CPU, cage.cpu_seconds, _LAST_WORD)
    _bound(resource.RLIMIT_NOFILE, cage.open_files)
    _bound(resource.RLIMIT_FSIZE, 0)
    _bound(resource.RLIMIT_CORE, 0)


def close_files_from(first: int) -> None:
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _bound(what: int, most: int, beyond: int = 0) -> None:
    """Sets a limit, or leaves a stricter one as it is; `beyond` is how much later the hard one follows."""
    allowed = resource.getrlimit(what)[1]
    soft, hard = (
        wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
        for wanted in (most, most + beyond)
    )
    resource.setrlimit(what, (soft, hard))


def _data_bytes() -> int:
    """Memory that this process has for itself to write to."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()


def _prctl(option: int, value: int) -> None:
    unused = ctypes.c_ulong(0)
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), unused, unused, unused):
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")
