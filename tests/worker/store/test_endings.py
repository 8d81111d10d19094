"""How analyses end without a result, and how they begin again."""

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from worker.errors import DecoderCrashed
from worker.jobs import Progress
from worker.store import Store


def _states(store: Store, ids: list[int]) -> list[str]:
    return [outcome.state for outcome in store.analyses.outcomes(ids)]


def test_what_waits_is_cancelled_at_once_and_what_runs_at_its_next_stage(store: Store, registered, claim):
    running = registered("a", sha256="1")
    (one,) = claim()
    waiting = registered("b", sha256="2")
    store.analyses.cancel([*running, *waiting])
    assert _states(store, [*running, *waiting]) == ["running", "cancelled"]
    assert store.analyses.report(one.lease, Progress("grounder", 0.1, 60.0))
    assert store.analyses.end_cancelled(one)
    assert _states(store, running) == ["cancelled"]
    assert store.analyses.outcomes(running)[0].to_dict()["error"] is None


def test_what_has_ended_is_not_cancelled(store: Store, registered, claim, result):
    ids = registered("Who comes in?")
    store.analyses.finish(claim()[0], result)
    store.analyses.cancel(ids)
    assert _states(store, ids) == ["succeeded"]


@pytest.mark.parametrize("how", ["given back", "failed", "left behind"])
def test_what_is_cancelled_ends_however_its_worker_lets_it_go(
    store: Store, registered, claim, counted, how: str
):
    ids = registered("a")
    (one,) = claim(length=-MINUTES if how == "left behind" else MINUTES)
    store.analyses.cancel(ids)
    if how == "given back":
        store.analyses.give_back([one])
    elif how == "failed":
        store.analyses.fail(one, DecoderCrashed("it died"), ATTEMPTS)
    assert claim() == []
    assert store.analyses.bury(ATTEMPTS) == []
    assert _states(store, ids) == ["cancelled"]
    assert counted("coverage WHERE verdict = 'not_searched'") == [1]


@pytest.mark.parametrize("how", ["answered", "failed", "put off", "given back", "cancelled", "given up"])
def test_what_nobody_is_at_any_more_has_no_time_at_which_it_would_end(
    store: Store, registered, claim, result, sql, how: str
):
    ids = registered("a")
    (one,) = claim(length=-MINUTES if how == "given up" else MINUTES)
    store.analyses.report(one.lease, Progress("grounder", 0.5, 60.0))
    assert sql("SELECT count(*) FROM analyses WHERE eta IS NOT NULL") == [(1,)]
    if how == "answered":
        store.analyses.finish(one, result)
    elif how == "failed":
        store.analyses.fail(one, NoFrames("none"), ATTEMPTS)
    elif how == "put off":
        store.analyses.fail(one, DecoderCrashed("it died"), ATTEMPTS)
    elif how == "given back":
        store.analyses.give_back([one])
    elif how == "cancelled":
        store.analyses.cancel(ids)
        store.analyses.end_cancelled(one)
    else:
        assert store.analyses.bury(1) == ids
    assert sql("SELECT count(*) FROM analyses WHERE state <> 'running' AND eta IS NULL") == [(1,)]


def test_cancelling_a_submission_spares_what_others_wait_for(store: Store, registered):
    first = registered("mine", "ours", key="mine")
    second = registered("ours", "theirs", key="theirs")
    store.submissions.cancel([1])
    store.analyses.cancel_submitted([1])
    assert _states(store, first) == ["cancelled", "queued"]
    assert _states(store, second) == ["queued", "queued"]


def test_once_all_who_waited_have_cancelled_it_ends(store: Store, registered):
    ids = registered("ours", key="mine")
    registered("ours", key="theirs")
    for submission_id in (1, 2):
        store.submissions.cancel([submission_id])
        store.analyses.cancel_submitted([submission_id])
    assert _states(store, ids) == ["cancelled"]


def test_who_has_tried_again_what_was_cancelled_waits_for_it_once_more(store: Store, registered):
    ids = registered("ours", key="mine")
    registered("ours", key="theirs")
    store.submissions.cancel([1])
    store.submissions.retry([1])
    store.analyses.cancel_submitted([2])
    assert _states(store, ids) == ["queued"]


def test_submissions_cancelled_together_need_not_spare_each_other(store: Store, registered):
    ids = registered("ours", key="mine")
    registered("ours", key="theirs")
    store.analyses.cancel_submitted([1, 2])
    assert _states(store, ids) == ["cancelled"]


def test_what_failed_or_was_cancelled_can_be_tried_again_from_the_start(store: Store, registered, claim, sql):
    failed, cancelled = registered("a", "b")
    one, other = claim()
    store.analyses.report(one.lease, Progress("grounder", 0.5, 60.0))
    store.analyses.fail(one, NoFrames("none"), ATTEMPTS)
    store.analyses.cancel([cancelled])
    store.analyses.end_cancelled(other)
    assert store.analyses.retry([failed, cancelled, 999]) == 2
    fresh = ("queued", 0, 0.0, None, None, None, None, False)
    seen = "state, attempts, progress, stage, error_code, started_at, finished_at, cancel_requested"
    assert sql(f"SELECT {seen} FROM analyses") == [fresh, fresh]
    assert [(one.attempts, one.lease.fence) for one in claim()] == [(1, 2), (1, 2)]


def test_what_is_tried_again_goes_behind_what_waits_already(store: Store, registered, claim):
    ids = registered("a", sha256="1")
    store.analyses.fail(claim()[0], NoFrames("none"), ATTEMPTS)
    registered("b", sha256="2")
    store.analyses.retry(ids)
    assert [claim()[0].sha256 for _ in range(2)] == ["2", "1"]


def test_what_waits_runs_or_is_answered_is_not_tried_again(store: Store, registered, claim, result):
    answered, running = registered("a", "b", sha256="1")
    one, _ = claim()
    store.analyses.finish(one, result)
    waiting = registered("a", sha256="2")
    assert store.analyses.retry([answered, running, *waiting]) == 0


def test_a_video_that_killed_its_process_too_often_is_quarantined_with_all_that_is_asked_of_it(
    store: Store, registered, claim, result, sql
):
    answered, running = registered("a", "b")
    one, other = claim()
    store.analyses.finish(one, result)
    waiting = registered("c")
    spared = registered("a", sha256="other")
    assert not store.analyses.record_crash(one.video_id, 2)
    assert _states(store, [running, *waiting]) == ["running", "queued"]
    assert store.analyses.record_crash(one.video_id, 2)
    assert _states(store, [answered, running, *waiting]) == ["succeeded", "failed", "failed"]
    assert _states(store, spared) == ["queued"]
    assert sql("SELECT state, crashes, error_code FROM videos WHERE crashes > 0") == [
        ("quarantined", 2, "quarantined")
    ]
    assert not store.analyses.finish(other, result)
    assert "killed its process 2 times" in store.analyses.outcomes(waiting)[0].error_message


def test_a_question_that_is_answered_after_a_crash_clears_the_video(store: Store, registered, claim, result):
    registered("a", "b")
    assert len(claim(length=-MINUTES)) == 2
    assert not store.analyses.record_crash(1, 2)
    one, other = claim()
    assert store.analyses.finish(one, result)
    assert not store.analyses.record_crash(1, 2)
    assert store.analyses.finish(other, result)


def test_another_question_that_is_answered_does_not_clear_the_video(store: Store, registered, claim, result):
    registered("a", "b")
    one, _ = claim()
    assert not store.analyses.record_crash(1, 2)
    assert store.analyses.finish(one, result)
    assert store.analyses.record_crash(1, 2)


def test_what_is_tried_again_later_does_not_keep_others_waiting(store: Store, registered, claim):
    registered("a", sha256="1")
    (one,) = claim()
    assert store.analyses.fail(one, DecoderCrashed("it died"), ATTEMPTS)
    fresh = registered("b", sha256="2")
    assert [claimed.analysis_id for claimed in claim()] == fresh
    assert claim() == []


def test_a_quarantine_ends_where_somebody_has_its_questions_tried_again(store: Store, registered, claim, sql):
    ids = registered("a")
    store.analyses.record_crash(1, 1)
    assert store.analyses.retry(ids) == 1
    assert sql("SELECT state, crashes, error_code, error_message FROM videos") == [
        ("readable", 0, None, None)
    ]
    assert [one.analysis_id for one in claim()] == ids
    assert registered("b")


def test_a_crash_of_a_video_that_was_deleted_counts_for_nothing(store: Store):
    assert not store.analyses.record_crash(999, 1)
