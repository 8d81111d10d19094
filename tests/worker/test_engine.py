from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery

import vm
from vm import bundled
from vm.errors import CheckpointNotFound
from worker import engine
from worker.jobs import Progress
from worker.settings import Settings, using


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple]]:
    """What is loaded, with which settings; nothing is."""
    made = []

    class Counted:
        @classmethod
        def load(cls, checkpoint, **how):
            made.append((checkpoint, how))
            return cls()

    monkeypatch.setitem(vars(vm), "VideoMind", Counted)
    yield made
    engine._load.cache_clear()


def test_without_a_checkpoint_the_bundled_one_is_loaded_and_the_log_says_so(
    loads: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for part in bundled._PARTS:
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).touch()
    monkeypatch.setattr(bundled, "BUNDLED_CHECKPOINT", tmp_path)
    with using(Settings(database_url="sqlite://")):
        assert engine.loaded() is engine.loaded()
    assert loads == [(tmp_path, {"base": None, "device": "auto", "dtype": "auto", "feature_cache": None})]
    assert caplog.messages == [bundled.BUNDLED_NOTICE]


def test_a_bundled_checkpoint_that_is_not_there_is_an_error_that_says_what_to_do(
    loads: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bundled, "BUNDLED_CHECKPOINT", tmp_path)
    with (
        using(Settings(database_url="sqlite://")),
        pytest.raises(CheckpointNotFound, match="VIDEOMIND_CHECKPOINT"),
    ):
        engine.loaded()
    assert loads == []


def test_the_model_is_loaded_once_per_process(loads: list):
    with using(
        Settings(database_url="sqlite://", checkpoint="here", base="there", device="cpu", dtype="float32")
    ):
        assert engine.loaded() is engine.loaded()
    given = {"base": "there", "device": "cpu", "dtype": "float32", "feature_cache": None}
    assert loads == [(Path("here"), given)]


def test_features_are_kept_where_the_settings_say(loads: list, tmp_path: Path):
    chosen = Settings(
        database_url="sqlite://", checkpoint="here", feature_cache=tmp_path, feature_cache_bytes=2000
    )
    with using(chosen):
        engine.loaded()
    kept = loads[0][1]["feature_cache"]
    assert (kept.folder, kept.max_bytes) == (tmp_path, 2000)


def test_how_far_an_analysis_is_can_be_read_from_the_tasks_state(redis_url: str):
    app = Celery(backend=redis_url)

    @app.task
    def analyse() -> None:
        engine._report(SimpleNamespace(analysis_id=7), Progress("grounder", 0.5, 12.5))

    with using(Settings(database_url="sqlite://")):
        analyse.apply(task_id="nobody-looks")
    with using(Settings(database_url="sqlite://", result_url=redis_url)):
        analyse.apply(task_id="somebody-looks")
    assert app.AsyncResult("nobody-looks").state == "PENDING"
    seen = app.AsyncResult("somebody-looks")
    assert (seen.state, seen.info) == (
        "PROGRESS",
        {"analysis_id": 7, "stage": "grounder", "fraction": 0.5, "seconds_left": 12.5},
    )
