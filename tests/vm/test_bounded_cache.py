from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vm.bounded_cache import BoundedCache

LIMIT = 100


@dataclass
class Box:
    nbytes: int


operations = st.lists(
    st.tuples(st.sampled_from(["put", "get"]), st.integers(0, 5), st.integers(0, 120)), max_size=40
)


def expected_after(steps: Sequence[tuple[str, int, int]]) -> dict[int, int]:
    """What must be kept, oldest use first: a list that is searched and trimmed the slow way."""
    kept: list[tuple[int, int]] = []
    for verb, key, size in steps:
        present = [pair for pair in kept if pair[0] == key]
        kept = [pair for pair in kept if pair[0] != key]
        kept += present if verb == "get" else [(key, size)] if size <= LIMIT else []
        while sum(size for _, size in kept) > LIMIT:
            kept = kept[1:]
    return dict(kept)


@given(operations)
def test_the_least_recently_used_goes_first_and_the_limit_holds(steps: list[tuple[str, int, int]]) -> None:
    cache: BoundedCache[Box] = BoundedCache(LIMIT)
    for number, (verb, key, size) in enumerate(steps, start=1):
        if verb == "put":
            cache.put(key, Box(size))
        else:
            cache.get(key)
        assert cache.nbytes == sum(expected_after(steps[:number]).values()) <= LIMIT
    expected = expected_after(steps)
    found = {key: box.nbytes for key in range(6) if (box := cache.get(key))}
    assert found == expected


def test_what_alone_exceeds_the_limit_is_not_kept_and_replaces_its_forerunner() -> None:
    cache: BoundedCache[Box] = BoundedCache(LIMIT)
    cache.put("a", Box(10))
    cache.put("a", Box(LIMIT + 1))
    assert cache.get("a") is None
    assert cache.nbytes == 0


def test_a_value_that_grew_is_measured_anew_when_used() -> None:
    cache: BoundedCache[Box] = BoundedCache(LIMIT)
    old, growing = Box(60), Box(30)
    cache.put("old", old)
    cache.put("growing", growing)
    growing.nbytes = 50
    assert cache.get("growing") is growing
    assert cache.get("old") is None
    assert cache.nbytes == 50


def test_a_value_that_grew_past_the_limit_is_handed_out_once_more_and_dropped() -> None:
    cache: BoundedCache[Box] = BoundedCache(LIMIT)
    box = Box(60)
    cache.put("a", box)
    box.nbytes = LIMIT + 1
    assert cache.get("a") is box
    assert cache.get("a") is None
    assert cache.nbytes == 0


def test_clearing_forgets_everything() -> None:
    cache: BoundedCache[Box] = BoundedCache(LIMIT)
    cache.put("a", Box(10))
    cache.clear()
    assert cache.get("a") is None
    assert cache.nbytes == 0
