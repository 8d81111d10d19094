import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests import commands
from tests.servers import Redis
from worker import schema
from worker.settings import Settings
from worker.store import Store

PATIENCE = 120.0
"""Seconds after which what should have happened counts as not happening."""


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_settings_are_shown_with_origin_and_purpose(
    videomind: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("VIDEOMIND_DEVICE=cpu\nVIDEOMIND_CHEKPOINT=/models\n")
    monkeypatch.setenv("VIDEOMIND_BROKER_URL", "redis://:hush@broker/0")
    code, out, err = videomind("settings")
    assert code == 0
    lines = out.splitlines()
    assert "VIDEOMIND_DEVICE = cpu  (.env)" in lines
    assert "VIDEOMIND_BROKER_URL = redis://:***@broker/0  (environment)" in lines
    assert "VIDEOMIND_MEDIA_ROOTS = none  (default)" in lines
    assert "VIDEOMIND_BASE = unset  (default)" in lines
    assert "    How often the sweep looks for lost work." in lines
    assert err == "videomind: VIDEOMIND_CHEKPOINT is no setting of this program: is it spelt right?\n"
    found = {line["variable"]: line for line in _lines(videomind("settings", "--json")[1])}
    assert found["VIDEOMIND_DEVICE"]["value"] == "cpu"
    assert found["VIDEOMIND_DEVICE"]["origin"] == ".env"
    assert len(found) == len(Settings.model_fields)


def test_a_beat_needs_a_broker(videomind: Callable, store: Store):
    code, _, err = videomind("beat")
    assert code == 3
    assert "VIDEOMIND_BROKER_URL" in err


def test_a_beat_alone_sends_the_sweeps_and_ends_on_sigterm(url: str, redis_server: Redis, redis_url: str):
    given = {"DATABASE_URL": url, "BROKER_URL": redis_url, "SWEEP_SECONDS": "1"}
    environment = {**os.environ, **{f"VIDEOMIND_{name}": value for name, value in given.items()}}
    process = commands.start("beat", environment=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while redis_server.client().llen("sweep") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.end()
    assert b"videomind.sweep" in redis_server.client().lindex("sweep", 0)


def test_a_worker_refuses_queues_there_are_not(videomind: Callable, store: Store):
    assert videomind("worker", "--only", "nosuch")[0] == 2


def test_health_is_good_with_tables_and_bad_without(
    videomind: Callable, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
):
    code, out, _ = videomind("health")
    assert code == 0
    assert out.startswith(f"ok  tables: version {schema.check(url)}")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    code, out, err = videomind("health", "--json")
    assert code == 3
    assert [line["well"] for line in _lines(out)] == [False]
    assert "not well: tables" in err
