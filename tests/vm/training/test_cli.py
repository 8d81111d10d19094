"""`videomind train` and `videomind make-verifier-data`, as they are typed."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import commands

Run = Callable[..., Any]
SMALL = ("--rank", 4, "--dropout", 0, "--log-every", 1, "--device", "cpu")


@pytest.fixture
def rows(rows_file: Callable[[list[dict[str, Any]]], Path], short_video: Path) -> Path:
    """One that each role can use, and one that none can."""
    good = {"video": short_video, "question": "Who?", "plan": "answer", "answer": "he", "query": "a man"}
    return rows_file(
        [good | {"spans": [[1, 2]], "candidate": [1, 2], "label": "Yes"}, {"video": short_video}]
    )


def test_a_role_is_trained_into_a_checkpoint_that_answers(
    run: Run, rows: Path, base: Path, miniature: Path, short_video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    common = ("--base", base, "--data", rows, "--out", out, *SMALL, "--bad-rows", "skip", "--max-steps", 2)
    for role in ("grounder", "verifier"):
        code, told, complained = run("train", role, *common, "--roles", miniature / "roles.json")
        assert (code, told) == (0, f"{out}  {role}  (ask it with --checkpoint {out} --base {base})\n")
        assert "skipped line 2" in complained
        metrics = (tmp_path / f"out.{role}.run" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in metrics] == [1, 2]
        assert list((tmp_path / f"out.{role}.run" / "tensorboard").iterdir())
    code, told, _ = run("ask", short_video, "a man", "--mode", "ground", "--checkpoint", out, "--base", base)
    assert code == 0
    assert "grounder, verifier" in told


def test_wrong_input_is_one_line_and_an_exit_code(
    run: Run, rows: Path, base: Path, miniature: Path, tmp_path: Path
) -> None:
    common = ("--base", base, "--data", rows, "--out", tmp_path / "out", *SMALL)
    roles = ("--roles", miniature / "roles.json")
    for code, words, arguments in (
        (3, "line 2: plan must be", ("planner", *common, *roles)),
        (4, "the planner has no prompt", ("planner", *common, "--bad-rows", "skip")),
        (3, "cannot name a role", ("Planner!", *common)),
        (3, "rates must be positive", ("planner", *common, *roles, "--learning-rate", -1)),
        (3, "no such file", ("planner", *common, *roles, "--data", tmp_path / "nowhere.jsonl")),
        (4, "nowhere.json", ("planner", *common, "--bad-rows", "skip", "--roles", tmp_path / "nowhere.json")),
        (3, "has no whole verifier", ("verifier", *common, *roles, "--bad-rows", "skip", "--from", base)),
    ):
        ended, told, complained = run("train", *arguments)
        assert (ended, told) == (code, "")
        assert words in complained
        assert "Traceback" not in complained
    assert run("train", "planner", "--base", tmp_path / "nowhere")[0] == 2
    assert not (tmp_path / "out").exists()


def test_a_grounder_labels_data_for_a_verifier(run: Run, rows: Path, miniature: Path, tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    command = (
        "make-verifier-data",
        "--checkpoint",
        miniature,
        "--data",
        rows,
        "--out",
        out,
        "--device",
        "cpu",
    )
    code, told, complained = run(*command)
    assert (code, told) == (3, "")
    assert "line 2" in complained
    code, told, _ = run(*command, "--bad-rows", "skip", "--candidates", 2)
    labels = [json.loads(line)["label"] for line in out.read_text().splitlines()]
    assert len(labels) == 2
    assert (code, told) == (0, f"{out}  {labels.count('Yes')} Yes  {labels.count('No')} No\n")


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(
    rows: Path, base: Path, miniature: Path, tmp_path: Path
) -> None:
    run_folder = tmp_path / "out.planner.run"
    process = commands.start(
        *("train", "planner", "--base", base, "--data", rows, "--out", tmp_path / "out", *SMALL),
        *("--roles", miniature / "roles.json", "--bad-rows", "skip", "--max-steps", 10**6),
        *("--save-every", 3),
        environment={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not list(run_folder.glob("checkpoint-*")) and process.returncode is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    complained = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "the same command goes on from the last checkpoint" in complained
    assert "Traceback" not in complained
    assert not (tmp_path / "out").exists()
