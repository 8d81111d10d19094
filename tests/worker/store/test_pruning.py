"""Earlier answers go when somebody says so, and never what readers see."""

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from worker.errors import InvalidRule
from worker.reindexing import Limits, Rule
from worker.store import Store
from worker.store.pruning import Retention


@pytest.fixture
def generations(store: Store, registered, found):
    """Has the same question answered by several checkpoints, one after the other."""

    def make(*fingerprints: str) -> list[int]:
        ids = []
        for fingerprint in fingerprints:
            ids += registered("Who?", fingerprint=fingerprint)
            (claim,) = store.analyses.claim_these(ids[-1:], "worker", fingerprint, MINUTES)
            store.analyses.finish(claim, found("Who?"))
        return ids

    return make


def _left(sql) -> list[int]:
    return [analysis_id for (analysis_id,) in sql("SELECT id FROM analyses ORDER BY id")]


def test_so_many_earlier_answers_are_kept_and_what_readers_see_always(store: Store, generations, sql):
    ids = generations("a", "b", "c", "d")
    assert store.pruning.count(Retention(keep=1, days=0)) == 2
    assert store.pruning.prune(Retention(keep=1, days=0)) == 2
    assert _left(sql) == ids[2:]
    assert store.pruning.prune(Retention(keep=0, days=0)) == 1
    assert store.pruning.prune(Retention(keep=0, days=0)) == 0
    assert _left(sql) == ids[3:]


def test_what_was_replaced_lately_is_kept(store: Store, generations):
    generations("a", "b", "c")
    assert store.pruning.prune(Retention(keep=0, days=1)) == 0


def test_whoever_asked_for_what_is_forgotten_is_answered_by_what_replaced_it(store: Store, generations, sql):
    ids = generations("a", "b", "c")
    store.pruning.prune(Retention(keep=0, days=0))
    assert sql("SELECT DISTINCT analysis_id FROM requests") == [(ids[-1],)]


def test_a_run_tells_what_it_cannot_take_back_any_more(store: Store, generations, found, sql):
    generations("a")
    run_id, _ = store.reindex.plan(Rule(), Limits(), "n")
    store.reindex.start(run_id)
    store.reindex.feed("n")
    (claim,) = store.analyses.claim("worker", "n", MINUTES, ATTEMPTS)
    store.analyses.finish(claim, found("Who?"))
    store.pruning.prune(Retention(keep=0, days=0))
    assert store.reindex.rollback(run_id) == (0, 1)
    assert len(_left(sql)) == 1


def test_what_a_run_has_still_to_ask_is_asked_though_its_answer_was_forgotten(store: Store, generations):
    generations("a")
    run_id, _ = store.reindex.plan(Rule(), Limits(), "n")
    generations("b")
    assert store.pruning.prune(Retention(keep=0, days=0)) == 1
    store.reindex.start(run_id)
    store.reindex.feed("n")
    (claim,) = store.analyses.claim("worker", "n", MINUTES, ATTEMPTS)
    assert claim.request.question == "Who?"


def test_nothing_is_kept_less_than_none_or_from_before_the_calendar():
    for wrong in ({"keep": -1}, {"days": -1}, {"days": 1e9}, {"days": float("nan")}):
        with pytest.raises(InvalidRule):
            Retention(**wrong)
