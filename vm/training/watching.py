"""What is told of a training run: progress with the time left, metrics as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers import TrainerCallback

_LINE_SECONDS = 30  # between lines where nobody watches a bar


class ShownProgress(TrainerCallback):
    """A bar on a terminal, else a line now and then; on stderr, from one process only."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(
            *columns, TextColumn("{task.description}"), console=self._console, transient=True
        )
        self._loss = "…"
        self._first = (0, 0.0)
        self._last_line = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._first = (state.global_step, time.monotonic())
        if state.is_world_process_zero and self._console.is_terminal:
            self._bar.add_task("", total=state.max_steps, completed=state.global_step)
            self._bar.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._loss = f"{logs['loss']:.4g}"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        text = f"loss {self._loss}, {_duration(self._seconds_left(state))} left"
        for task in self._bar.task_ids:
            self._bar.update(task, completed=state.global_step, description=text)
        if not self._bar.task_ids and time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            print(f"step {state.global_step} of {state.max_steps}, {text}", file=sys.stderr, flush=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back, however training ended."""
        if self._bar.task_ids:  # one that never began would still end with an empty line
            self._bar.stop()

    def _seconds_left(self, state: Any) -> float:
        step, since = self._first
        return (time.monotonic() - since) / (state.global_step - step) * (state.max_steps - state.global_step)


class JsonLines(TrainerCallback):
    """One object per logged step. What a run that goes on will write again is cut off first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero or not self._path.exists():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step(line) <= state.global_step]
        draft = self._path.with_suffix(".partial")
        draft.write_text("".join(kept), encoding="utf-8")
        draft.replace(self._path)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **logs}) + "\n")


class TensorBoard(TrainerCallback):
    """Event files in a folder.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._writer = self._make(str(self._folder), purge_step=state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self._writer is not None and logs and "loss" in logs:
            for name, value in logs.items():
                self._writer.add_scalar(name, value, state.global_step)
            self._writer.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._writer is not None:
            self._writer.close()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")  # cut off while it was written


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
