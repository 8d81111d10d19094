"""Keeps Ctrl-C waiting for a moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """What is done within is done whole; a Ctrl-C meanwhile counts from its end on.

    Only the main thread is ever interrupted, so elsewhere this changes nothing.

    Raises:
        KeyboardInterrupt: at the end, where there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if came:
        raise KeyboardInterrupt
