"""What an open video keeps for later questions, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=Sized)


class BoundedCache(Generic[T]):
    """Least recently used goes first once the values' bytes exceed the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def get(self, key: Hashable) -> T | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Hashable, value: T) -> None:
        """Keep `value`, unless it alone exceeds the limit."""
        self._drop(key)
        if value.nbytes > self._limit:
            return
        self._values[key] = value
        self._nbytes += value.nbytes
        while self._nbytes > self._limit:
            self._drop(next(iter(self._values)))

    def _drop(self, key: Hashable) -> None:
        if key in self._values:
            self._nbytes -= self._values.pop(key).nbytes

    def clear(self) -> None:
        self._values.clear()
        self._nbytes = 0
