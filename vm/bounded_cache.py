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
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def get(self, key: Hashable) -> T | None:
        if key not in self._values:
            return None
        value, _ = self._values[key]
        self.put(key, value)  # measured anew: a prefix grows when a long question follows it
        return value

    def put(self, key: Hashable, value: T) -> None:
        """Keep `value`, unless it alone exceeds the limit."""
        self._drop(key)
        nbytes = value.nbytes
        if nbytes > self._limit:
            return
        self._values[key] = (value, nbytes)
        self._nbytes += nbytes
        while self._nbytes > self._limit:
            self._drop(next(iter(self._values)))

    def _drop(self, key: Hashable) -> None:
        if key in self._values:
            self._nbytes -= self._values.pop(key)[1]

    def clear(self) -> None:
        self._values.clear()
        self._nbytes = 0
