import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vm.training.watching import JsonLines, ShownProgress, TensorBoard


def state(step: int, most: int = 100, first: bool = True) -> Any:
    return SimpleNamespace(global_step=step, max_steps=most, is_world_process_zero=first)


def test_a_run_that_goes_on_writes_each_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.on_train_begin(None, state(0), None)
    for step in (1, 2, 3):
        lines.on_log(None, state(step), None, logs={"loss": float(step)})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    again = JsonLines(path)
    again.on_train_begin(None, state(2), None)
    again.on_log(None, state(3), None, logs={"loss": 7.0})
    again.on_log(None, state(3), None, logs={"train_runtime": 1.0})
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert found == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": 7.0}]


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    lines, board = JsonLines(tmp_path / "metrics.jsonl"), TensorBoard(tmp_path / "board")
    for watching in (lines, board):
        watching.on_train_begin(None, state(0, first=False), None)
    lines.on_log(None, state(1, first=False), None, logs={"loss": 1.0})
    board.on_log(None, state(1, first=False), None, logs={"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_every_figure_by_step(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.on_train_begin(None, state(0), None)
    for step in (1, 2):
        board.on_log(None, state(step), None, logs={"loss": 3.0 / step, "language": 1.0})
    board.on_train_end(None, state(2), None)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss", "language"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 3.0), (2, 1.5)]


def test_progress_is_told_with_the_time_left_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, 7200.0, 7200.0, 7200.0, 7210.0, 7211.0))
    monkeypatch.setattr("vm.training.watching.time.monotonic", lambda: next(clock))
    progress = ShownProgress()
    progress.on_train_begin(None, state(10), None)
    progress.on_log(None, state(10), None, logs={"loss": 0.25})
    progress.on_step_end(None, state(20), None)
    progress.on_step_end(None, state(30), None)
    progress.close()
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == ["step 20 of 100, loss 0.25, 16:00:00 left"]
