from datetime import timedelta

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames, UnsupportedMedia
from worker.jobs import Request, Submission
from worker.store import Store
from worker.store.callbacks import MOST_CALLS, Call

URL = "https://example.org/told"
NOW = timedelta(0)


@pytest.fixture
def ended(store: Store):
    """Submits something, and has it end at once."""

    def submit(key: str = "one", url: str | None = URL) -> int:
        submission = Submission(key, "file:///a.mp4", (Request("Who?"),), callback_url=url)
        submission_id = store.submissions.add(submission).submission_id
        store.submissions.cancel([submission_id])
        return submission_id

    return submit


def test_nobody_is_told_before_the_last_question_has_ended(store: Store, registered, claim, result):
    good, bad = registered("a", "b", key="order 66", callback_url=URL)
    one, other = claim()
    assert store.callbacks.take_due(MINUTES) is None
    store.analyses.finish(one, result)
    assert store.callbacks.take_due(MINUTES) is None
    store.analyses.fail(other, NoFrames("none"), ATTEMPTS)
    assert store.callbacks.take_due(MINUTES) == Call(
        submission_id=1,
        url=URL,
        attempts=1,
        body={
            "version": 1,
            "submission_id": 1,
            "key": "order 66",
            "state": "succeeded",
            "error": None,
            "analyses": [
                {"request_id": 1, "analysis_id": good, "state": "succeeded"},
                {"request_id": 2, "analysis_id": bad, "state": "failed"},
            ],
        },
    )


def test_a_submission_that_failed_is_told_with_the_reason(store: Store):
    store.submissions.add(Submission("one", "file:///a.mp4", (Request("Who?"),), callback_url=URL))
    intake = store.submissions.claim("registrar", MINUTES, ATTEMPTS)
    store.submissions.fail(intake, UnsupportedMedia("no video"), ATTEMPTS)
    body = store.callbacks.take_due(MINUTES).body
    assert (body["state"], body["analyses"]) == ("failed", [])
    assert body["error"] == {"code": "unsupported_media", "message": "no video"}


def test_who_gave_no_address_is_not_told(store: Store, ended):
    ended(url=None)
    assert store.callbacks.take_due(MINUTES) is None


def test_what_somebody_is_telling_just_now_is_left_to_them_for_a_while(store: Store, ended):
    ended("one")
    second = ended("two")
    assert store.callbacks.take_due(MINUTES).submission_id != second
    assert store.callbacks.take_due(NOW).submission_id == second
    assert store.callbacks.take_due(NOW).submission_id == second
    assert store.callbacks.take_due(MINUTES).attempts == 3


def test_what_was_heard_is_not_told_again(store: Store, ended, sql):
    ended()
    call = store.callbacks.take_due(NOW)
    store.callbacks.undelivered(call, "refused")
    sql("UPDATE submissions SET callback_at = NULL")
    store.callbacks.delivered(store.callbacks.take_due(NOW))
    assert store.callbacks.take_due(NOW) is None
    assert sql("SELECT callback_error FROM submissions") == [(None,)]


def test_what_was_not_heard_is_told_again_later_and_given_up_in_the_end(store: Store, ended, sql):
    ended()
    for attempt in range(1, MOST_CALLS + 1):
        call = store.callbacks.take_due(NOW)
        assert call.attempts == attempt
        store.callbacks.undelivered(call, f"refused {attempt}")
        assert store.callbacks.take_due(NOW) is None
        sql("UPDATE submissions SET callback_at = NULL")
    assert store.callbacks.take_due(NOW) is None
    assert sql("SELECT callback_error FROM submissions") == [(f"refused {MOST_CALLS}",)]


def test_who_was_slow_to_hear_nothing_does_not_undo_what_another_told(store: Store, ended, sql):
    ended()
    slow = store.callbacks.take_due(NOW)
    store.callbacks.delivered(store.callbacks.take_due(NOW))
    store.callbacks.undelivered(slow, "timed out")
    assert sql("SELECT callback_error FROM submissions") == [(None,)]
    assert store.callbacks.take_due(NOW) is None


def test_what_is_tried_again_is_told_again(store: Store, ended):
    first = ended()
    store.callbacks.delivered(store.callbacks.take_due(MINUTES))
    store.submissions.retry([first])
    assert store.callbacks.take_due(NOW) is None
    store.submissions.cancel([first])
    assert store.callbacks.take_due(NOW).attempts == 1
