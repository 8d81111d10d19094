"""What was kept and may be of no use by now: a time zone can be given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from worker.errors import InvalidRule
from worker.store.sessions import Row

Told = TypeVar("Told")

log = logging.getLogger(__name__)


def usable(rows: Iterable[Row], tell: Callable[[Row], Told]) -> Iterator[tuple[Row, Told]]:
    """Each row with what it tells. One that is of no use any more is named in the log and holds up no other.

    Args:
        tell: raises InvalidRule for such a row, and says in it which one it is.
    """
    for row in rows:
        try:
            told = tell(row)
        except InvalidRule as error:
            log.error("%s", error)
        else:
            yield row, told
