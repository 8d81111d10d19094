"""Fetches and decodes the next video while the model is busy with this one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from worker import ingest
from worker.settings import Settings
from worker.store import Store

if TYPE_CHECKING:
    from vm import VideoMind
    from vm.video import IsolatedReader

log = logging.getLogger(__name__)


_Found = tuple[str, str]  # uri and sha256


class _Ahead:
    """A video that is looked for and opened before anybody asked for it, in a thread."""

    def __init__(
        self, look: Callable[[], _Found | None], open_it: Callable[[str, str, ExitStack], IsolatedReader]
    ) -> None:
        self._look, self._open_it = look, open_it
        self._sha256: str | None = None
        self._looked = threading.Event()
        self._stack = ExitStack()
        self._reader: IsolatedReader | None = None
        self._ended = threading.Lock()  # of who closes what was opened: the thread, or who gives it up
        self._done = self._given_up = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._begun = threading.Lock()  # whoever begins it goes on first
        with self._begun:
            self._thread.start()

    def _run(self) -> None:
        with self._begun:
            pass
        try:
            coming = self._look()
            self._sha256 = coming and coming[1]
            self._looked.set()
            if coming:
                self._reader = self._open_it(*coming, self._stack)
        except Exception as error:  # it will come again when the video's turn has come
            log.info("the next video could not be read ahead: %s", error)
        self._looked.set()
        with self._ended:
            self._done = True
            if self._given_up:
                self._stack.close()

    def is_of(self, sha256: str) -> bool:
        """Whether it is this video. Waits for the look, and not until it is open."""
        self._looked.wait()
        return self._sha256 == sha256

    def take(self, stack: ExitStack) -> IsolatedReader | None:
        """The open video, which is closed with `stack`; None where it could not be opened."""
        self._thread.join()
        stack.enter_context(self._stack)
        return self._reader

    def give_up(self) -> None:
        """Nobody asked for it. Does not wait for what is still on its way."""
        with self._ended:
            self._given_up = True
            if self._done:
                self._stack.close()


class Lookahead:
    """Opens videos in processes of their own; the next one before it is asked for.

    It is a guess: what comes to be claimed is decided when it is claimed.
    """

    def __init__(self, mind: VideoMind, store: Store, settings: Settings) -> None:
        self._mind, self._store, self._settings = mind, store, settings
        self._ahead: _Ahead | None = None

    @contextmanager
    def opened(self, uri: str, sha256: str) -> Iterator[IsolatedReader]:
        """A claimed video.

        Raises:
            VideoError: it cannot be fetched or opened.
        """
        with ExitStack() as stack:
            ahead, self._ahead = self._ahead, None
            reader = None
            if ahead and ahead.is_of(sha256):
                reader = ahead.take(stack)
            elif ahead:
                ahead.give_up()
            yield reader or self._open(uri, sha256, stack)

    def begin(self) -> None:
        """Looks for the next video, and opens it, both in the background. A database that is away is no
        reason to end what is being done."""
        self.close()
        look = partial(self._store.analyses.coming, self._mind.fingerprint, self._settings.max_attempts)
        self._ahead = _Ahead(look, self._read_ahead)

    def close(self) -> None:
        """Gives up what was opened in vain."""
        ahead, self._ahead = self._ahead, None
        if ahead:
            ahead.give_up()

    def _read_ahead(self, uri: str, sha256: str, stack: ExitStack) -> IsolatedReader:
        reader = self._open(uri, sha256, stack)
        self._mind.prefetch(reader, sha256)
        return reader

    def _open(self, uri: str, sha256: str, stack: ExitStack) -> IsolatedReader:
        fetched = stack.enter_context(ingest.fetched(uri, self._settings, sha256))
        return stack.enter_context(ingest.opened(fetched.path, self._settings))
