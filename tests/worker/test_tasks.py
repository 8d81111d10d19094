from collections.abc import Iterator

import pytest
from sqlalchemy import text

from worker import engine, tasks
from worker.celery_app import app
from worker.store import Store


@pytest.fixture(autouse=True)
def _own_engine(store: Store, mind) -> Iterator[None]:
    """Tasks work with what their process has made; here with the test's own."""
    made = (engine.analyst, engine.registrar, engine._store)
    for each in made:
        each.cache_clear()
    yield
    for each in made:
        each.cache_clear()


def _submit(store: Store, **arguments: object) -> dict:
    return tasks.submit.apply(kwargs={"version": 1, "questions": [{"question": "a"}], **arguments}).get()


def test_the_public_names_are_fixed():
    names = {name for name in app.tasks if name.startswith("videomind.")}
    assert names == {
        "videomind.submit",
        "videomind.cancel",
        "videomind.ingest_directory",
        "videomind.fetch",
        "videomind.analyse",
        "videomind.sweep",
    }


def test_a_submission_goes_from_message_to_result(store: Store, video, monkeypatch):
    monkeypatch.setattr(app, "send_task", lambda *_, **__: None)
    ids = _submit(store, uri=str(video))
    assert ids.keys() == {"submission_id", "request_ids"}
    tasks.fetch.apply(throw=True)
    tasks.analyse.apply(throw=True)
    analyses = store.submissions.analyses(ids["submission_id"])
    assert [outcome.state for outcome in store.analyses.outcomes(analyses)] == ["succeeded"]


def test_a_message_delivered_twice_is_one_submission(store: Store, video):
    sent = {"kwargs": {"version": 1, "uri": str(video), "questions": [{"question": "a"}]}, "task_id": "one"}
    assert tasks.submit.apply(**sent).get() == tasks.submit.apply(**sent).get()
    assert len(store.queues.arrivals()) == 1


@pytest.mark.parametrize("sent", [{"kwargs": {"uri": 7}}, {"args": [1, "two"]}, {"kwargs": {"version": 1}}])
def test_what_is_not_understood_is_kept_with_the_reason(store: Store, sent: dict):
    assert tasks.submit.apply(**sent, task_id="odd").get() is None
    with store.engine.begin() as connection:
        row = connection.execute(text("SELECT key, state, error_code, arguments FROM submissions")).one()
    assert row[:3] == ("odd", "failed", "invalid_message")
    assert row[3]


def test_a_folder_is_submitted_once_however_often_it_is_looked_through(
    store: Store, tmp_path, encode, monkeypatch
):
    monkeypatch.setattr("worker.service.SETTLE_SECONDS", 0.01)
    encode(tmp_path / "a.mp4")
    encode(tmp_path / "b.mp4", seed=1)
    (tmp_path / "c.txt").touch()
    sent = {"version": 1, "path": str(tmp_path), "pattern": "*.mp4", "questions": [{"question": "a"}]}
    first, again = (tasks.ingest_directory.apply(kwargs=sent).get() for _ in range(2))
    assert len(first) == 2
    assert again == first
    encode(tmp_path / "0.mp4", seed=2)
    assert [each["submission_id"] for each in tasks.ingest_directory.apply(kwargs=sent).get()] == [3, 1, 2]


def test_a_submission_can_be_cancelled_by_message(store: Store, video):
    ids = _submit(store, uri=str(video))
    tasks.cancel.apply(kwargs={"version": 1, "submissions": [ids["submission_id"]]}, throw=True)
    assert [arrival.state for arrival in store.queues.arrivals()] == ["cancelled"]


def test_only_json_is_accepted():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"


def test_no_message_is_delivered_again_while_its_task_may_still_run():
    assert app.conf.broker_transport_options["visibility_timeout"] > app.conf.task_time_limit
