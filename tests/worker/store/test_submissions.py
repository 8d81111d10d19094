import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import UnsupportedMedia
from vm.moments import Span
from vm.subtitles import Cue
from worker.errors import InvalidMessage, SourceUnavailable
from worker.jobs import AskSettings, Intake, Request, Submission
from worker.store import Store

FULL = Submission(
    key="order 66",
    uri="file:///videos/tür.mp4",
    requests=(
        Request("Où?", ("a", "ü"), "ground", AskSettings(window=None, min_answer_seconds=4.5)),
        Request("Who?", subtitles=(Cue(Span(0.5, 1.5), "Hallo\nWelt"),)),
    ),
    collection="depot",
    source="gate 2",
    recorded_at=datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC),
    priority=7,
    callback_url="https://example.org/told",
    force=True,
)


@pytest.fixture
def added(store: Store) -> Callable[..., int]:
    """Adds a submission, and gives its id."""

    def add(key: str = "first", **how: object) -> int:
        given = {"uri": "file:///videos/door.mp4", "requests": (Request("Who?"),), **how}
        return store.submissions.add(Submission(key, **given)).submission_id

    return add


@pytest.fixture
def take(store: Store) -> Callable[..., Intake | None]:
    def claim(length: timedelta = MINUTES) -> Intake | None:
        return store.submissions.claim("registrar", length, ATTEMPTS)

    return claim


def _state(store: Store, submission_id: int) -> str:
    return store.queues.arrivals(submission_ids=[submission_id])[0].state


def test_what_was_handed_in_before_is_known_by_its_key(store: Store):
    accepted = store.submissions.add(FULL)
    assert store.submissions.known([FULL.key, "another"]) == {FULL.key: accepted}
    assert len(accepted.request_ids) == 2


def test_what_is_claimed_is_what_was_submitted(store: Store, take: Callable[..., Intake]):
    store.submissions.add(FULL)
    assert take().submission == FULL


def test_submitted_twice_under_one_key_it_is_one_submission(store: Store, added: Callable[..., int], counted):
    first = store.submissions.add(FULL)
    assert store.submissions.add(FULL) == first
    assert counted("submissions", "requests") == [1, 2]
    assert len(set(first.request_ids)) == 2


def test_the_most_urgent_is_claimed_first_and_of_these_the_oldest(added, take):
    urgent_late = [added("a"), added("b", priority=9), added("c", priority=9), added("d", priority=0)]
    claimed = [take().lease.id for _ in range(4)]
    assert claimed == [urgent_late[n] for n in (1, 2, 0, 3)]
    assert take() is None


def test_what_was_left_behind_waits_for_its_turn_as_before(added, take):
    left = added("low", priority=1)
    take(-MINUTES)
    urgent = added("high", priority=2)
    assert [take().lease.id, take().lease.id] == [urgent, left]


def test_one_that_somebody_works_on_is_not_to_be_had(store: Store, added, take):
    first = added()
    assert store.submissions.claim_one(first, "registrar", MINUTES).lease.id == first
    assert store.submissions.claim_one(first, "other", MINUTES) is None
    assert take() is None
    assert store.submissions.claim_one(999, "registrar", MINUTES) is None


def test_one_whose_lease_has_run_out_goes_to_the_next_who_alone_may_write(store: Store, added, take):
    first = added()
    stopped = take(-MINUTES)
    successor = take()
    assert (successor.lease.fence, successor.attempts) == (2, 2)
    assert not store.submissions.renew(stopped.lease, MINUTES)
    assert not store.submissions.fail(stopped, UnsupportedMedia("no video"), ATTEMPTS)
    assert not store.submissions.end_cancelled(stopped)
    store.submissions.give_back(stopped)
    assert _state(store, first) == "running"
    assert store.submissions.renew(successor.lease, MINUTES)


def test_a_lease_that_is_renewed_is_not_taken_over(store: Store, added, take):
    added()
    slow = take(-MINUTES)
    assert store.submissions.renew(slow.lease, MINUTES)
    assert take() is None


def test_a_failure_that_may_pass_waits_and_one_that_will_not_ends_it(store: Store, added, take, sql):
    passing, lasting = added("a"), added("b")
    assert store.submissions.fail(take(), SourceUnavailable("no answer"), ATTEMPTS)
    assert store.submissions.fail(take(), UnsupportedMedia("no video"), ATTEMPTS)
    assert [_state(store, passing), _state(store, lasting)] == ["queued", "failed"]
    assert take() is None
    sql("UPDATE submissions SET not_before = NULL")
    assert take().attempts == 2


def test_one_that_is_given_back_counts_as_untried(store: Store, added, take):
    added()
    store.submissions.give_back(take())
    assert (again := take()).attempts == 1
    assert again.lease.fence == 2


def test_one_whose_worker_was_lost_at_every_attempt_is_buried(store: Store, added, take):
    first = added()
    for _ in range(ATTEMPTS):
        assert store.submissions.bury(ATTEMPTS) == []
        take(-MINUTES)
    assert take() is None
    assert store.submissions.bury(ATTEMPTS) == [first]
    assert store.queues.arrivals()[0].error_code == "lost_worker"
    assert store.submissions.bury(ATTEMPTS) == []


def test_what_lost_processes_worked_on_is_free_at_once_and_that_of_others_is_not(store: Store, added, take):
    mine, theirs = added("a"), added("b")
    store.submissions.claim_one(mine, "host:1:abc", MINUTES)
    store.submissions.claim_one(theirs, "host:11:abc", MINUTES)
    store.submissions.orphan("host:1:")
    assert take().lease.id == mine
    assert take() is None


def test_one_that_waits_and_is_cancelled_has_ended(store: Store, added, take):
    first = added()
    store.submissions.cancel([first])
    assert _state(store, first) == "cancelled"
    assert take() is None


def test_one_that_is_fetched_and_is_cancelled_ends_at_the_next_look(store: Store, added, take):
    first = added()
    intake = take()
    assert not store.submissions.is_cancelled(intake.lease)
    store.submissions.cancel([first])
    assert store.submissions.is_cancelled(intake.lease)
    assert store.submissions.end_cancelled(intake)
    assert _state(store, first) == "cancelled"


@pytest.mark.parametrize("how", ["given back", "failed", "left behind"])
def test_one_that_is_cancelled_ends_however_its_worker_lets_it_go(store: Store, added, take, how: str):
    first = added()
    intake = take(-MINUTES if how == "left behind" else MINUTES)
    store.submissions.cancel([first])
    if how == "given back":
        store.submissions.give_back(intake)
    elif how == "failed":
        store.submissions.fail(intake, SourceUnavailable("no answer"), ATTEMPTS)
    assert take() is None
    assert store.submissions.bury(ATTEMPTS) == []
    assert _state(store, first) == "cancelled"


def test_what_failed_or_was_cancelled_can_be_tried_again_from_the_start(store: Store, added, take, sql):
    failed, cancelled, waiting = added("a"), added("b"), added("c")
    store.submissions.fail(take(), UnsupportedMedia("no video"), ATTEMPTS)
    store.submissions.cancel([cancelled])
    sql("UPDATE submissions SET callback_attempts = 8")
    assert store.submissions.retry([failed, cancelled, waiting, 999]) == 2
    assert {take().attempts for _ in range(3)} == {1}
    untold = sql("SELECT id FROM submissions WHERE callback_attempts = 0 ORDER BY id")
    assert untold == [(failed,), (cancelled,)]


def test_all_of_very_many_can_be_tried_again(store: Store):
    assert store.submissions.retry(range(1, 70_001)) == 0


def test_who_worked_on_it_before_a_retry_cannot_write_any_more(store: Store, added, take):
    first = added()
    old = take(-MINUTES)
    store.submissions.cancel([first])
    store.submissions.bury(ATTEMPTS)
    store.submissions.retry([first])
    take()
    assert not store.submissions.fail(old, UnsupportedMedia("no video"), ATTEMPTS)


@pytest.mark.parametrize(
    "received",
    [
        ["no", "mapping"],
        "text",
        None,
        {"a\0\ud800": "\udcff\0"},
        {"number": math.nan, "nested": [{"x": math.inf}]},
    ],
)
def test_what_could_not_be_understood_is_kept_with_the_reason(store: Store, sql, received: object):
    store.submissions.reject("bad\ud800\0", received, InvalidMessage("uri is missing"))
    store.submissions.reject("bad\ud800\0", received, InvalidMessage("uri is missing"))
    assert sql("SELECT state, error_code, error_message, arguments IS NULL FROM submissions") == [
        ("failed", "invalid_message", "uri is missing", False)
    ]


def test_what_could_not_be_understood_is_not_tried_again(store: Store, take):
    store.submissions.reject("bad", {}, InvalidMessage("uri is missing"))
    rejected = store.queues.arrivals()[0].submission_id
    assert store.submissions.retry([rejected]) == 0
    assert take() is None


def test_texts_that_no_database_takes_are_made_such(store: Store, take):
    store.submissions.add(Submission("\0", "file:///\udcff\0", (Request("Who?"),), "a\0b", "c\ud800"))
    taken = take().submission
    assert (taken.key, taken.uri) == ("\ufffd", "file:///\\udcff\ufffd")
    assert (taken.collection, taken.source) == ("a\ufffdb", "c\ufffd")


def test_the_analyses_of_a_submission_come_in_the_order_of_its_questions(store: Store, registered):
    later = registered("b", key="one")[0]
    ids = registered("c", "b", "a", key="two")
    assert ids[1] == later
    assert store.submissions.analyses(2) == ids
    assert store.submissions.analyses(999) == []
