"""The differences that SQL finds are those that a comparison by hand finds."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.moments import Candidate, Moment, Span
from vm.result import Result
from worker.reindexing import Limits, Rule
from worker.store import Store

OLD, NEW = "f" * 64, "n" * 64
times = st.integers(0, 20).map(lambda eighths: eighths / 8)  # which numbers have exactly
spans = st.tuples(times, times).map(lambda ends: (min(ends), max(ends)))
lists = st.lists(spans, max_size=5, unique=True)
few = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _with(result: Result, found: list[tuple[float, float]]) -> Result:
    candidates = tuple(Candidate(Span(*span), 0.5) for span in found)
    moments = tuple(Moment(c, rank, "a door opens") for rank, c in enumerate(candidates, start=1))
    return replace(result, candidates=candidates, moments=moments)


@pytest.fixture
def switched(store: Store, registered, found, sql) -> Callable[..., int]:
    """Has a question answered by two generations, and gives the run of the second."""

    def switch(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> int:
        sql("DELETE FROM videos")
        (claim,) = store.analyses.claim_these(registered("Who?"), "worker", OLD, MINUTES)
        store.analyses.finish(claim, _with(found("Who?"), before))
        run_id, _ = store.reindex.plan(Rule(), Limits(), NEW)
        store.reindex.start(run_id)
        store.reindex.feed(NEW)
        (claim,) = store.analyses.claim("worker", NEW, MINUTES, ATTEMPTS)
        store.analyses.finish(claim, _with(found("Who?"), after))
        return run_id

    return switch


def _by_hand(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> Counter[str]:
    """Each old moment's best match that is the best the other way round as well, and covers half of both."""

    def iou(old: int, new: int) -> float:
        return 1.0 if before[old] == after[new] else Span(*before[old]).iou(Span(*after[new]))

    changes: Counter[str] = Counter()
    matched = set()
    for old in range(len(before)):
        if not after:
            changes["lost"] += 1
            continue
        new = min(range(len(after)), key=lambda n: (-iou(old, n), n))
        best = min(range(len(before)), key=lambda o: (-iou(o, new), o))
        if best == old and iou(old, new) >= 0.5:
            changes["kept" if iou(old, new) >= 0.9 else "shifted"] += 1
            matched.add(new)
        else:
            changes["lost"] += 1
    changes["gained"] = len(after) - len(matched)
    return +changes


@few
@given(before=lists, after=lists)
def test_moments_are_compared_as_by_hand(store: Store, switched, before, after):
    assert Counter(store.diffs.count(switched(before, after), all_ranks=True)) == _by_hand(before, after)
