"""What opens a video, or is heard by a webhook, is where nobody reads it but workers."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import inspect

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from vm.result import Result
from worker.errors import InvalidMessage
from worker.reindexing import Limits, Rule
from worker.standing import Standing
from worker.store import Store

SECRET = "https://anna:hush@cams.example/gate.mp4?X-Amz-Signature=hush&token=hush"
SHOWN = "https://anna:***@cams.example/gate.mp4?X-Amz-Signature=***&token=***"
CALLBACK = "https://ingest.example/done?key=hush"
HOOK = "https://alarm.example/hits?key=hush"
VIEWS = (
    "moment_view",
    "answer_view",
    "coverage_gap_view",
    "queue_view",
    "moment_history_view",
    "answer_history_view",
    "moment_diff_view",
    "hit_view",
)


@pytest.fixture
def shown(store: Store, sql: Callable[..., list[tuple]]) -> Callable[[], dict[str, str]]:
    """All that analysts may read: every row of every table and view, as text."""
    tables = {name for name in inspect(store.engine).get_table_names() if not name.startswith("search_index")}
    names = tables - {"secrets", "alembic_version"} | {*VIEWS}
    return lambda: {name: repr(sql(f"SELECT * FROM {name}")) for name in sorted(names)}


@pytest.fixture
def archive(store: Store, registered, claim, result: Result) -> None:
    """Something in every view: answered twice, with a hit, and with what still waits."""
    store.standing.add(Standing("Who comes in?", "depot", threshold=0.6, mode="ground", webhook_url=HOOK))
    here = {"uri": SECRET, "collection": "depot", "callback_url": CALLBACK}
    registered("Why?", **here)
    for each in claim():
        store.analyses.finish(each, result)
    run_id, _ = store.reindex.plan(Rule(), Limits(), "n" * 64)
    store.reindex.start(run_id)
    store.reindex.feed("n" * 64)
    for each in claim(fingerprint="n" * 64):
        store.analyses.finish(each, result)
    registered("Who?", **here)


def test_workers_have_the_whole_url_and_all_others_what_may_be_shown(
    archive, store: Store, claim, shown, sql
):
    assert [each.uri for each in claim()] == [SECRET]
    told = shown()
    assert not [name for name, rows in told.items() if "hush" in rows]
    for view in VIEWS:
        assert SHOWN in told[view], view
    assert sql("SELECT uri FROM submissions") == [(SHOWN,), (SHOWN,)]
    assert [store.hits.latest()[0].uri, store.analyses.outcomes([1])[0].uri] == [SHOWN, SHOWN]


def test_who_fetches_calls_back_and_delivers_has_the_whole_url(archive, store: Store, registered, sql):
    sql("UPDATE submissions SET state = 'queued' WHERE id = 2")
    taken = store.submissions.claim("me", MINUTES, ATTEMPTS)
    assert (taken.submission.uri, taken.submission.callback_url) == (SECRET, CALLBACK)
    assert store.callbacks.take_due(timedelta(minutes=1)).url == CALLBACK
    assert store.hits.take_due(timedelta(minutes=1)).url == HOOK
    assert store.standing.all()[0].standing.webhook_url == HOOK.replace("hush", "***")
    assert [each.uri for each in store.standing.footage("depot", None, None, None)] == [SECRET]
    assert store.diffs.places([1]) == {1: (SECRET, "a" * 64)}
    assert store.analyses.coming("f" * 64, ATTEMPTS) == (SECRET, "a" * 64)


@pytest.mark.parametrize("moved", ["https://cams.example/open.mp4", SECRET.replace("hush", "new"), SECRET])
def test_a_video_that_is_found_elsewhere_is_opened_with_what_opens_it_there(
    store: Store, registered, claim, counted, sql, moved: str
):
    registered("Who?", uri=SECRET)
    registered("Who?", uri=moved)
    assert [each.uri for each in claim()] == [moved]
    assert counted("secrets WHERE video_id = 1") == [int("?" in moved)]
    registered("Why?", uri=SECRET)
    assert [each.uri for each in claim()] == [SECRET]


def test_what_is_deleted_leaves_no_secret_behind(archive, sql, counted):
    for table in ("videos", "submissions", "standing_questions"):
        sql(f"DELETE FROM {table}")
    assert counted("secrets") == [0]


def test_errors_and_what_was_not_understood_are_kept_without_secrets(store: Store, registered, claim, shown):
    registered("Who?", uri=SECRET, callback_url=CALLBACK)
    store.analyses.fail(claim()[0], NoFrames(f"{SECRET}: none"), 1)
    store.callbacks.undelivered(store.callbacks.take_due(timedelta()), f"{CALLBACK} does not answer")
    store.submissions.reject("odd", {"uri": SECRET, "of": [{"more": CALLBACK}]}, InvalidMessage(f"{SECRET}?"))
    told = shown()
    assert not [name for name, rows in told.items() if "hush" in rows]
    assert told["submissions"].count("cams.example") == 3
    assert "ingest.example/done?key=*** does not answer" in told["submissions"]
