"""Keeps Ctrl-C and SIGTERM waiting for a moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """What is done within is done whole; a signal meanwhile does at its end what it would have done at once.

    Only the main thread is ever interrupted, so elsewhere this changes nothing.

    Raises:
        KeyboardInterrupt: at the end, where there was a Ctrl-C and nobody has said otherwise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {held: signal.signal(held, lambda number, _: came.append(number)) for held in _HELD_BACK}
    try:
        yield
    finally:
        for held, handler in before.items():
            signal.signal(held, signal.SIG_DFL if handler is None else handler)
    for number in came:
        signal.raise_signal(number)
