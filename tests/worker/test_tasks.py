import json

import pytest

from vm.errors import CheckpointNotFound
from worker import tasks
from worker.celery_app import app
from worker.jobs import ABANDONED_AFTER
from worker.settings import Settings, using


def test_the_public_name_of_the_task_is_fixed():
    assert app.tasks["videomind.analyse"] is app.tasks[tasks.analyse.name]


def test_without_a_broker_a_sent_task_runs_here(store, submitted, mind):
    ids = [submitted("a"), submitted("b")]
    tasks.analyse.delay(json.loads(json.dumps(ids)))
    assert [outcome.state for outcome in store.outcomes(ids)] == ["succeeded"] * 2


def test_progress_is_sent_as_a_signal(store, submitted, mind):
    heard = []

    def listen(analysis_id, stage, fraction, **_):
        heard.append((analysis_id, stage, fraction))

    tasks.progressed.connect(listen)
    analysis_id = submitted("a")
    tasks.analyse.delay([analysis_id])
    assert heard == [(analysis_id, "grounder", 0.5)]


def test_a_worker_without_a_model_takes_no_work(store, submitted, monkeypatch, tmp_path):
    monkeypatch.setattr("vm.bundled.BUNDLED_CHECKPOINT", tmp_path)
    analysis_id = submitted("a")
    with using(Settings(str(store.engine.url))), pytest.raises(CheckpointNotFound):
        tasks.analyse.delay([analysis_id])
    assert store.outcomes([analysis_id])[0].state == "queued"


def test_only_json_is_accepted():
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"


def test_no_message_is_delivered_again_while_its_task_may_still_run():
    assert app.conf.broker_transport_options["visibility_timeout"] > app.conf.task_time_limit
    assert app.conf.task_time_limit <= ABANDONED_AFTER.total_seconds()
