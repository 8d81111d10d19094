"""`videomind run` and the embedded worker as processes: real model, video, database and signals."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import psutil
import pytest

from tests import commands
from tests.commands import Command

PARITY = Path(__file__).parent.parent / "parity"
VIDEO = PARITY / "videos" / "tiny3s.mp4"
LONGER_VIDEO = PARITY / "videos" / "wide61s.mkv"
MODEL = ["--checkpoint", str(PARITY / "checkpoint"), "--base", str(PARITY / "base")]
PATIENCE = 120.0
"""Seconds after which a process that should have ended or begun counts as hung."""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Command]:
    """Starts the command with an embedded database of the test's own."""
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    return partial(commands.start, environment=environment)


@pytest.fixture
def videomind(start: Callable) -> Callable[..., CompletedProcess[str]]:
    def run(*arguments: object) -> CompletedProcess[str]:
        return start(*arguments).ended(PATIENCE)

    return run


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "videomind" / "videomind.db"


def _query(database: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        return connection.execute(statement).fetchall()


def _wait_until_running(database: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if _query(database, "SELECT 1 FROM analyses WHERE state = 'running'"):
                return
        except sqlite3.OperationalError:
            """The file or its tables are not there yet."""
        time.sleep(0.01)
    raise AssertionError("the analysis never began")


def test_a_question_on_a_video_ends_as_rows_that_sql_shows(videomind: Callable, database: Path):
    ran = videomind("run", VIDEO, "-q", "Why did the man appear?", *MODEL, "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    result = json.loads(ran.stdout)
    shown = videomind("sql", "SELECT rank, start_seconds, answer FROM moment_view ORDER BY rank", "--json")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [row["rank"] for row in rows] == [moment["rank"] for moment in result["moments"]]
    assert [row["start_seconds"] for row in rows] == pytest.approx(
        [m["start"] for m in result["moments"]], abs=1e-4
    )
    assert {row["answer"] for row in rows} == {result["answer"]["text"]}
    assert _query(database, "SELECT state, attempts FROM analyses") == [("succeeded", 1)]


def test_ctrl_c_ends_with_130_and_hands_the_question_back(start: Callable, database: Path):
    process = start("run", LONGER_VIDEO, "-q", "Find the moment when the ball appears", *MODEL)
    _wait_until_running(database)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "videomind: interrupted\n")
    assert _query(database, "SELECT state, attempts FROM analyses") == [("queued", 0)]
    assert _query(database, "SELECT count(*) FROM candidates") == [(0,)]


def test_what_a_killed_process_left_behind_is_done_by_a_later_one(
    start: Callable, videomind: Callable, database: Path
):
    arguments = ("run", VIDEO, "-q", "Why did the man appear?", *MODEL)
    process = start(*arguments)
    _wait_until_running(database)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert _query(database, "SELECT state FROM analyses") == [("running",)]
    assert videomind(*arguments).returncode == 0
    assert _query(database, "SELECT state, attempts FROM analyses") == [("succeeded", 2)]


@pytest.fixture
def working(start: Callable, videomind: Callable, database: Path) -> tuple[Command, list]:
    """An embedded worker in the middle of a video with several questions, behind which another waits; and the
    processes it has started."""
    for video, *questions in ((LONGER_VIDEO, "the ball", "the man", "the dog"), (VIDEO, "the end")):
        asked = [
            part for question in questions for part in ("-q", f"Find the moment when {question} appears")
        ]
        assert videomind("submit", video, *asked).returncode == 0
    process = start("worker", "--embedded")
    _wait_until_running(database)
    return process, psutil.Process(process.pid).children(recursive=True)


def _ask_to_end(process: Command) -> None:
    process.send_signal(signal.SIGTERM)
    for line in process.stderr:
        if "once more to hand it back" in line:
            return
    raise AssertionError("it did not hear")


def _assert_nothing_is_left(database: Path, helpers: list[psutil.Process]) -> None:
    """Nobody runs, and only what was answered has rows."""
    assert psutil.wait_procs(helpers, timeout=PATIENCE)[1] == []
    for table in ("candidates", "moments", "answers"):
        half = f"SELECT 1 FROM {table} JOIN analyses ON analyses.id = analysis_id WHERE state <> 'succeeded'"
        assert _query(database, half) == []
    for table in ("analyses", "submissions"):
        assert _query(database, f"SELECT id FROM {table} WHERE state = 'running'") == []
    assert list(database.parent.rglob("partial/*")) == []


def test_sigterm_lets_an_embedded_worker_end_the_video_it_is_at_and_begin_no_other(working, database: Path):
    process, helpers = working
    _ask_to_end(process)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    states = _query(database, "SELECT state, attempts FROM analyses ORDER BY id")
    assert states[:3] == [("succeeded", 1)] * 3
    assert states[3:] in ([], [("queued", 0)])  # it may not have been taken in yet
    _assert_nothing_is_left(database, helpers)


def test_a_second_sigterm_has_an_embedded_worker_hand_back_what_it_is_at(working, database: Path):
    process, helpers = working
    _ask_to_end(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    states = _query(database, "SELECT state, attempts FROM analyses")
    assert ("queued", 0) in states
    assert set(states) <= {("queued", 0), ("succeeded", 1)}
    _assert_nothing_is_left(database, helpers)
