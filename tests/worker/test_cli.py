"""The program as a whole: what it starts with, and what becomes of settings it cannot use."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from tests import commands
from vm.errors import CheckpointError

PATIENCE = 120.0
"""Seconds after which a process that should have ended counts as hung."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a process of its own, in an empty folder."""

    def start(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VIDEOMIND_")}
        environment = {**kept, "XDG_DATA_HOME": str(tmp_path / "data"), **variables}
        return commands.start(*arguments, environment=environment, folder=tmp_path).ended(PATIENCE)

    return start


def test_help_comes_without_what_takes_seconds_to_import():
    code = """
import atexit, sys
atexit.register(lambda: print(sorted({"torch", "transformers", "av"} & sys.modules.keys())))
sys.argv = ["videomind", "--help"]
from worker.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
    shown = done.stdout.split()
    assert {"ask", "run", "submit", "watch", "status", "moments", "answers", "coverage"} <= set(shown)
    assert {"worker", "beat", "settings", "sql", "db"} <= set(shown)


def test_a_setting_that_cannot_be_used_is_one_line_and_ends_with_3(run: Callable):
    done = run("status", VIDEOMIND_LOG="loud")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "videomind: VIDEOMIND_LOG is 'loud': input should be 'text' or 'json'\n"


INTERRUPTED_AT = """
import os, sys
moment, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
came = []
def look(event, arguments):
    if event == "import" and arguments[0] == moment and not came:
        came.append(moment)
        os.kill(os.getpid(), number)
sys.addaudithook(look)
from worker.cli import main
main()
"""


@pytest.mark.parametrize(
    ("number", "moment", "arguments"),
    [
        (signal.SIGINT, "typer", ["status"]),
        (signal.SIGTERM, "celery", ["status"]),
        (signal.SIGTERM, "torch.nn", ["worker", "--embedded"]),
    ],
)
def test_a_signal_while_the_program_or_its_model_is_loaded_is_one_line_and_130(
    tmp_path: Path, number: signal.Signals, moment: str, arguments: list[str]
):
    command = [sys.executable, "-c", INTERRUPTED_AT, moment, str(int(number)), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIDEOMIND_")}
    environment = {**kept, "XDG_DATA_HOME": str(tmp_path), "VIDEOMIND_BROKER_URL": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    told = done.stderr.splitlines()
    assert (done.returncode, done.stdout, told[-1]) == (130, "", "videomind: interrupted")
    assert len(told) == (2 if "worker" in arguments else 1)  # that there is no broker is told before


def test_a_file_in_the_working_directory_sets_what_is_used(run: Callable, tmp_path: Path):
    (tmp_path / ".env").write_text(f"VIDEOMIND_DATABASE_URL=sqlite:///{tmp_path}/here.db\n")
    assert run("db", "upgrade").returncode == 0
    assert (tmp_path / "here.db").exists()
    assert not (tmp_path / "data").exists()


def test_the_librarys_commands_read_the_file_as_well(
    videomind: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def refuse(video: Path, checkpoint: Path, *_: object) -> NoReturn:
        raise CheckpointError(str(checkpoint))

    monkeypatch.setattr("vm.cli.watching", refuse)
    monkeypatch.delenv("VIDEOMIND_CHECKPOINT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("VIDEOMIND_CHECKPOINT=/of/the/file\n")
    assert videomind("ask", "a.mp4", "Who?") == (4, "", "videomind: /of/the/file\n")
    monkeypatch.setenv("VIDEOMIND_CHECKPOINT", "/of/the/environment")
    assert videomind("ask", "a.mp4", "Who?") == (4, "", "videomind: /of/the/environment\n")
    given = videomind("ask", "a.mp4", "Who?", "--checkpoint", "/given")
    assert given == (4, "", "videomind: /given\n")
