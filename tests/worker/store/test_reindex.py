"""Generations: asked anew beside the old one, switched video by video, taken back."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Result
from worker.errors import RunRefused
from worker.jobs import Claim, Progress, Request
from worker.reindexing import Limits, Rule
from worker.store import Store
from worker.store.reindex import AT_ONCE

OLD, NEW = "f" * 64, "n" * 64
Found = Callable[..., Result]


@pytest.fixture
def answered(store: Store, registered, found: Found) -> Callable[..., list[int]]:
    """Has questions of a video asked, and answered by a checkpoint."""

    def answer(*questions: str, fingerprint: str = OLD, says: str = "old", **how: object) -> list[int]:
        ids = registered(*questions, fingerprint=fingerprint, **how)
        for claim in store.analyses.claim_these(ids, "worker", fingerprint, MINUTES):
            store.analyses.finish(claim, _result(found, claim, says))
        return ids

    return answer


@pytest.fixture
def begun(store: Store) -> Callable[..., int]:
    """Plans and starts a run, and has its first questions asked."""

    def begin(rule: Rule | None = None, limits: Limits | None = None) -> int:
        run_id, _ = store.reindex.plan(rule or Rule(), limits or Limits(), NEW)
        store.reindex.start(run_id)
        store.reindex.feed(NEW)
        return run_id

    return begin


@pytest.fixture
def seen(sql) -> Callable[[], list[tuple]]:
    """What readers see: question, answer and fingerprint of each."""
    query = "SELECT question, answer, fingerprint FROM answer_view ORDER BY video_id, question"
    return lambda: sql(query)


def _result(found: Found, claim: Claim, says: str) -> Result:
    made = found(claim.request.question, claim.request.mode, claim.request.options)
    return replace(made, answer=Answer(says, None, Span(0.0, 2.0)), fingerprint=claim.fingerprint)


def _next(store: Store) -> list[Claim]:
    return store.analyses.claim("worker", NEW, MINUTES, ATTEMPTS)


def test_readers_see_the_last_of_several_answers_to_a_question_and_history_all(answered, seen, sql):
    answered("Who?")
    answered("Who?", fingerprint=NEW, says="new")
    assert seen() == [("Who?", "new", NEW)]
    history = "SELECT answer, current FROM answer_history_view ORDER BY answer"
    assert [(answer, bool(current)) for answer, current in sql(history)] == [("new", True), ("old", False)]


def test_a_question_that_fails_anew_takes_no_answer_away(store: Store, answered, registered, seen):
    answered("Who?")
    ids = registered("Who?", fingerprint=NEW)
    (claim,) = store.analyses.claim_these(ids, "worker", NEW, MINUTES)
    store.analyses.fail(claim, NoFrames("none"), ATTEMPTS)
    assert seen() == [("Who?", "old", OLD)]


def test_another_mode_or_other_options_are_another_question(answered, seen):
    answered("Who?")
    answered(Request("Who?", ("he", "she")))
    assert len(seen()) == 2


def test_other_settings_are_another_generation_of_the_same_question(answered, seen, counted):
    answered("Who?")
    answered(Request("Who?", settings=replace(Request("x").settings, window=None)), says="new")
    assert seen() == [("Who?", "new", OLD)]
    assert counted("generations") == [2]


def test_a_plan_tells_how_much_it_chooses_and_why(store: Store, answered, registered, sql):
    answered("Who?", "Why?", sha256="1")
    answered("Who?", fingerprint=NEW, sha256="2")
    ids = registered("Who?", sha256="3")
    (claim,) = store.analyses.claim_these(ids, "worker", OLD, MINUTES)
    store.analyses.fail(claim, NoFrames("none"), ATTEMPTS)
    rule = Rule(("stale", "failed"))
    found = store.reindex.estimate(rule, NEW)
    assert (found.videos, found.questions, dict(found.reasons)) == (2, 3, {"stale": 2, "failed": 1})
    assert found.video_hours == pytest.approx(2 * 2 / 3600)  # two seconds each
    assert found.estimated_seconds == pytest.approx(0.5 / 2 * 3 * 2)  # half a second for two of video
    assert sql("SELECT count(*) FROM reindex_runs") == sql("SELECT count(*) FROM reindex_items") == [(0,)]


def test_a_plan_keeps_to_its_bounds(store: Store, answered):
    answered("Who?", sha256="1", collection="site", source="gate")
    answered("Who?", sha256="2", collection="site", source="yard")
    answered("Who?", sha256="3", collection="depot", source="gate")
    assert store.reindex.estimate(Rule(collection="site"), NEW).videos == 2
    assert store.reindex.estimate(Rule(collection="site", source="gate"), NEW).videos == 1
    assert store.reindex.estimate(Rule(since="2026-01-01T00:00+00:00"), NEW).videos == 0


def test_low_scores_and_old_answers_are_chosen_by_their_bounds(store: Store, answered, sql):
    answered("Who?", sha256="1")  # the best moment has 0.7
    assert store.reindex.estimate(Rule(("low_score",), below_score=0.7), OLD).questions == 0
    assert store.reindex.estimate(Rule(("low_score",), below_score=0.71), OLD).questions == 1
    assert store.reindex.estimate(Rule(("old",), older_than_days=1), OLD).questions == 0
    sql("UPDATE analyses SET finished_at = '2020-01-01 00:00:00.000000'")
    assert store.reindex.estimate(Rule(("old",), older_than_days=1), OLD).questions == 1


def test_videos_that_were_never_asked_are_asked_the_rules_questions(store: Store, registered, begun):
    registered(sha256="1")
    registered("Who?", sha256="2")
    begun(Rule(("never",), questions=("When?", "Where?")))
    assert sorted(claim.request.question for claim in _next(store)) == ["When?", "Where?"]


def test_a_video_is_switched_when_all_its_questions_have_ended_and_not_before(
    store: Store, answered, begun, seen, found
):
    answered("Who?", "Why?")
    run_id = begun()
    first, second = _next(store)
    store.analyses.finish(first, _result(found, first, "new"))
    assert [answer for _, answer, _ in seen()] == ["old", "old"]
    store.analyses.finish(second, _result(found, second, "new"))
    assert [answer for _, answer, _ in seen()] == ["new", "new"]
    run = store.reindex.run(run_id)
    assert (run.state, run.items, run.remaining_seconds) == ("finished", {"switched": 2}, 0.0)


def test_what_fails_in_a_run_leaves_its_old_answer_and_the_others_are_switched(
    store: Store, answered, begun, seen, found
):
    answered("Who?", "Why?")
    run_id = begun()
    first, second = _next(store)
    store.analyses.finish(first, _result(found, first, "new"))
    store.analyses.fail(second, NoFrames("none"), ATTEMPTS)
    assert sorted(answer for _, answer, _ in seen()) == ["new", "old"]
    assert store.reindex.run(run_id).items == {"switched": 1, "failed": 1}


def test_a_run_goes_behind_live_work_and_only_a_little_of_it_waits(store: Store, answered, registered, begun):
    for number in range(AT_ONCE + 3):
        answered("Who?", sha256=f"{number}")
    run_id = begun()
    assert store.reindex.feed(NEW) == 0
    assert store.reindex.run(run_id).items == {"asked": AT_ONCE, "waiting": 3}
    registered("When?", sha256="live", fingerprint=NEW)
    assert [claim.request.question for claim in _next(store)] == ["When?"]


def test_what_is_asked_live_meanwhile_is_seen_at_once_and_is_no_longer_the_runs(
    store: Store, answered, registered, begun, seen, found
):
    answered("Who?", "Why?")
    run_id = begun()
    registered("Who?", fingerprint=NEW)
    for claim in _next(store):
        if claim.request.question == "Who?":
            store.analyses.finish(claim, _result(found, claim, "live"))
        else:
            rest = claim
    assert [answer for _, answer, _ in seen()] == ["live", "old"]
    store.analyses.finish(rest, _result(found, rest, "new"))
    assert [answer for _, answer, _ in seen()] == ["live", "new"]
    assert store.reindex.rollback(run_id) == (1, 0)
    assert [answer for _, answer, _ in seen()] == ["live", "old"]


def test_what_this_checkpoint_has_answered_before_is_switched_without_being_asked(
    store: Store, answered, begun, seen
):
    answered("Who?", fingerprint=NEW, says="new")
    answered("Who?", fingerprint=OLD, says="old")
    run_id = begun()
    assert _next(store) == []
    assert seen() == [("Who?", "new", NEW)]
    assert store.reindex.run(run_id).state == "finished"


def test_a_paused_run_takes_back_what_waits_and_goes_on_later(store: Store, answered, begun, counted):
    for number in range(3):
        answered("Who?", sha256=f"{number}")
    run_id = begun()
    (running,) = _next(store)
    store.reindex.pause(run_id)
    assert counted("analyses WHERE run_id IS NOT NULL") == [1]
    assert store.reindex.run(run_id).items == {"asked": 1, "waiting": 2}
    assert _next(store) == []
    store.reindex.start(run_id)
    store.reindex.feed(NEW)
    assert store.reindex.run(run_id).items == {"asked": 3}
    assert running.video_id not in [claim.video_id for claim in _next(store)]


def test_a_cancelled_run_changes_nothing_more(store: Store, answered, begun, seen, found, counted):
    answered("Who?", sha256="1")
    answered("Who?", sha256="2")
    run_id = begun()
    (running,) = _next(store)
    store.reindex.cancel(run_id)
    assert store.analyses.report(running.lease, Progress("grounder", 0.5, 60.0))  # somebody wants it to end
    store.analyses.finish(running, _result(found, running, "new"))
    assert [answer for _, answer, _ in seen()] == ["old", "old"]
    assert store.reindex.run(run_id).items == {"cancelled": 2}
    with pytest.raises(RunRefused, match="is cancelled"):
        store.reindex.start(run_id)


def test_a_rollback_restores_every_row_that_readers_saw(store: Store, answered, begun, found, sql):
    views = ("moment_view", "answer_view", "coverage_gap_view")

    def all_rows() -> list[list[tuple]]:
        return [sorted(map(repr, sql(f"SELECT * FROM {view}"))) for view in views]

    for number in range(5):
        answered("Who?", "Why?", sha256=f"{number}")
    before = all_rows()
    run_id = begun()
    while claims := _next(store):
        for claim in claims:
            store.analyses.finish(claim, _result(found, claim, "new"))
        store.reindex.feed(NEW)
    assert all_rows() != before
    assert store.reindex.rollback(run_id) == (10, 0)
    assert all_rows() == before
    with pytest.raises(RunRefused, match="rolled back"):
        store.reindex.rollback(run_id)


def test_a_rollback_leaves_what_a_later_run_has_switched(store: Store, answered, begun, seen, found):
    answered("Who?")
    first = begun()
    (claim,) = _next(store)
    store.analyses.finish(claim, _result(found, claim, "new"))
    answered("Who?", fingerprint="later", says="later")
    assert store.reindex.rollback(first) == (0, 1)
    assert seen() == [("Who?", "later", "later")]


def test_a_run_with_nothing_to_do_has_ended_with_its_start(store: Store, begun):
    assert store.reindex.run(begun()).state == "finished"


def test_what_is_no_run_is_refused(store: Store):
    with pytest.raises(RunRefused, match="there is no run 7"):
        store.reindex.run(7)


def test_outside_its_hours_a_run_asks_nothing_and_takes_back_what_waits(
    store: Store, answered, begun, sql, counted
):
    answered("Who?")
    run_id = begun()
    assert counted("analyses WHERE run_id IS NOT NULL") == [1]
    never = Limits(hours=_hours_elsewhere(store)).to_stored()
    _change_limits(store, run_id, never)
    assert store.reindex.feed(NEW) == 0
    assert store.reindex.run(run_id).items == {"waiting": 1}


def test_a_run_whose_budget_is_spent_asks_nothing_more(store: Store, answered, begun, found):
    for number in range(AT_ONCE + 1):
        answered("Who?", sha256=f"{number}")
    run_id = begun(limits=Limits(compute_hours=0.5 / 3600))
    (claim,) = _next(store)
    store.analyses.finish(claim, _result(found, claim, "new"))  # took half a second
    assert store.reindex.feed(NEW) == 0
    assert store.reindex.run(run_id).items == {"switched": 1, "waiting": AT_ONCE}


def test_another_checkpoints_worker_feeds_nothing(store: Store, answered):
    answered("Who?")
    run_id, _ = store.reindex.plan(Rule(), Limits(), NEW)
    store.reindex.start(run_id)
    assert store.reindex.feed("other") == 0


def test_a_video_that_became_unreadable_fails_its_questions_and_ends_the_run(store: Store, answered, sql):
    answered("Who?")
    run_id, _ = store.reindex.plan(Rule(), Limits(), NEW)
    sql("UPDATE videos SET state = 'quarantined'")
    store.reindex.start(run_id)
    store.reindex.feed(NEW)
    run = store.reindex.run(run_id)
    assert (run.state, run.items) == ("finished", {"failed": 1})


def test_live_work_outranks_what_is_asked_in_the_background(store: Store, answered, registered, begun):
    answered("Who?")
    begun()
    (claim,) = _next(store)
    assert not store.analyses.is_outranked(claim.priority, NEW, ATTEMPTS)
    registered("When?", sha256="live", fingerprint=NEW)
    assert store.analyses.is_outranked(claim.priority, NEW, ATTEMPTS)


def _hours_elsewhere(store: Store) -> str:
    """An hour that it is not now."""
    from datetime import UTC, datetime

    hour = (datetime.now(UTC).hour + 6) % 23
    return f"{hour:02}:00-{hour + 1:02}:00"


def _change_limits(store: Store, run_id: int, limits: dict) -> None:
    from sqlalchemy import update

    from worker.archive_tables import RunRow

    with store.engine.begin() as connection:
        connection.execute(update(RunRow).where(RunRow.id == run_id).values(limits=limits))


def _moved(result: Result, *spans: tuple[float, float]) -> Result:
    """The result with other moments, the best first."""
    candidates = tuple(Candidate(Span(*span), 0.5) for span in spans)
    moments = tuple(Moment(c, rank, "a door opens") for rank, c in enumerate(candidates, start=1))
    return replace(result, candidates=candidates, moments=moments)


def test_a_run_is_compared_moment_by_moment(store: Store, registered, begun, found):
    ids = registered("Who?")
    (claim,) = store.analyses.claim_these(ids, "worker", OLD, MINUTES)
    old = _moved(_result(found, claim, "old"), (0.0, 1.0), (1.2, 1.6), (1.7, 2.0))
    store.analyses.finish(claim, old)
    run_id = begun()
    (claim,) = _next(store)
    new = _moved(_result(found, claim, "new"), (0.0, 1.0), (1.3, 1.6), (1.05, 1.15))
    store.analyses.finish(claim, new)
    assert store.diffs.count(run_id, all_ranks=True) == {
        "kept": 1,
        "shifted": 1,
        "lost": 1,
        "gained": 1,
        "answer changed": 1,
    }
    assert store.diffs.count(run_id) == {"kept": 1, "answer changed": 1}
    shifted = next(c for c in store.diffs.largest(run_id, all_ranks=True) if c.change == "shifted")
    assert (shifted.old_start_seconds, shifted.new_start_seconds) == (1.2, 1.3)
    assert shifted.iou == pytest.approx(0.75)
