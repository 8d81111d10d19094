import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile

import pytest
from sqlalchemy import text

from tests import commands
from tests.commands import Command
from worker.standing import Standing
from worker.store import Store

PATIENCE = 120.0
"""Seconds after which what should have happened counts as not happening."""


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Command]]:
    """Starts `videomind watch` as a process of its own."""
    started: list[Command] = []

    def watch(*arguments: object) -> Command:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        started.append(commands.start("watch", *arguments, "--database", url, environment=environment))
        return started[-1]

    yield watch
    for process in started:
        process.end()


def _until(store: Store, count: int) -> list[tuple]:
    """The submissions, once there are so many."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with store.engine.begin() as connection:
            found = connection.execute(text("SELECT uri, collection, source FROM submissions ORDER BY id"))
            rows = [tuple(row) for row in found]
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_what_is_finished_is_submitted_once_and_ctrl_c_ends_it(
    start: Callable, store: Store, video: Path, tmp_path: Path
):
    folder = tmp_path / "camera"
    (folder / "march").mkdir(parents=True)
    place = ("--collection", "depot", "--source", "gate", "--pattern", "*.mp4", "--recursive")
    process = start(folder, "-q", "Who?", "--option", "a", "--option", "b", *place, "--every", 1)
    copyfile(video, folder / "one.mp4")
    copyfile(video, folder / "other.txt")
    assert _until(store, 1) == [((folder / "one.mp4").as_uri(), "depot", "gate")]
    copyfile(video, folder / "march" / "two.mp4")
    rows = _until(store, 2)
    assert rows[1] == ((folder / "march" / "two.mp4").as_uri(), "depot", "gate")
    lines = [process.stdout.readline() for _ in rows]
    assert lines == [f"submission {number}: {row[0]}\n" for number, row in enumerate(rows, start=1)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "videomind: no longer watching\n")
    assert len(_until(store, 2)) == 2
    with store.engine.begin() as connection:
        asked = connection.execute(text("SELECT question, options FROM requests")).all()
    assert [tuple(row) for row in asked] == [("Who?", '["a", "b"]')] * 2


def test_what_was_submitted_before_is_not_told_again_after_a_new_start(
    start: Callable, store: Store, video: Path, tmp_path: Path
):
    folder = tmp_path / "camera"
    folder.mkdir()
    copyfile(video, folder / "one.mp4")
    first = start(folder, "-q", "Who?", "--every", 1)
    _until(store, 1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=PATIENCE)
    again = start(folder, "-q", "Who?", "--every", 1, "--json")
    copyfile(video, folder / "two.mp4")
    told = json.loads(again.stdout.readline())
    assert told == {"uri": (folder / "two.mp4").as_uri(), "submission_id": 2, "request_ids": [2]}
    assert len(_until(store, 2)) == 2


def test_without_a_question_what_stands_is_asked(start: Callable, store: Store, video: Path, tmp_path: Path):
    folder = tmp_path / "camera"
    folder.mkdir()
    copyfile(video, folder / "one.mp4")
    store.standing.add(Standing("Who climbs the fence?", "depot"))
    process = start(folder, "--collection", "depot", "--every", 1)
    assert _until(store, 1) == [((folder / "one.mp4").as_uri(), "depot", None)]
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE)[1] == "videomind: no longer watching\n"
    with store.engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM requests").scalar() == 0


def test_what_is_wrong_from_the_beginning_ends_it(videomind: Callable, store: Store, tmp_path: Path):
    code, out, err = videomind("watch", tmp_path / "none", "-q", "a")
    assert (code, out) == (3, "")
    assert "none" in err
    assert videomind("watch", tmp_path, "-q", "")[0] == 3
    assert videomind("watch", tmp_path, "-q", "a", "--source", "gate")[0] == 2
    assert store.queues.arrivals() == []
