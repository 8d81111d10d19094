from pathlib import Path

import pytest

from vm.errors import InvalidSource
from worker import runner, tasks
from worker.jobs import Request
from worker.settings import Settings, using


def _silent(stage: str, fraction: float) -> None:
    """Nobody watches."""


def test_questions_are_answered_in_the_order_asked(store, mind, video: Path):
    outcomes = runner.answer(video, [Request("b"), Request("a")], _silent)
    assert [outcome.result.question for outcome in outcomes] == ["b", "a"]


def test_what_was_answered_before_is_not_asked_again(store, mind, video: Path):
    first = runner.answer(video, [Request("a")], _silent)
    assert runner.answer(video, [Request("a"), Request("b")], _silent)[0] == first[0]
    assert mind.asked == ["a", "b"]


def test_a_question_asked_twice_is_answered_once(store, mind, video: Path):
    assert len(runner.answer(video, [Request("a"), Request("a")], _silent)) == 1


def test_what_another_process_works_on_is_left_to_it(store, mind, video: Path, submitted):
    store.claim([submitted("a")])
    assert runner.answer(video, [Request("a")], _silent)[0].state == "running"
    assert mind.asked == []


def test_the_stages_are_reported_while_they_run_and_not_later(store, mind, video: Path):
    told = []
    runner.answer(video, [Request("a")], lambda *stage: told.append(stage))
    tasks.progressed.send(sender=None, analysis_id=1, stage="late", fraction=1.0)
    assert told == [("reading", 0.0), ("grounder", 0.5)]


def test_a_missing_video_leaves_no_row(store, mind, tmp_path: Path):
    with pytest.raises(InvalidSource):
        runner.answer(tmp_path / "none.mp4", [Request("a")], _silent)
    assert store.outcomes([1]) == []


def test_a_new_database_is_set_up_before_the_model_is_loaded(mind, tmp_path: Path):
    with using(Settings(f"sqlite:///{tmp_path}/new/videomind.db")):
        runner.prepare()
    assert (tmp_path / "new" / "videomind.db").exists()
