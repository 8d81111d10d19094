"""`videomind evaluate` as its entry point runs it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from vm.bundled import BUNDLED_NOTICE
from vm.scenes.clip import Clip

PARITY = Path(__file__).parents[2] / "parity"
CHECKPOINT = PARITY / "checkpoint"
VIDEOS = PARITY / "videos"


Run = Callable[..., Any]


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return partial(run, "evaluate")


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Three questions of one video, one of another, and one of none."""
    path = tmp_path / "questions.jsonl"
    choice = {"options": ["red", "blue"], "answer": "red", "mode": "ground-answer", "spans": [[0, 2]]}
    rows = [
        {"video": "tiny3s.mp4", "question": "Why is it red?", **choice},
        {"video": "tiny3s.mp4", "question": "When is it red?", "mode": "ground", "spans": [[1, 3]]},
        {"video": "tiny3s.mp4", "question": "What is it?", **choice, "mode": "answer", "spans": []},
        {"video": "portrait9s.mp4", "question": "Why is it blue?", **choice},
        {"video": "gone.mp4", "question": "Why is it gone?", **choice},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_help_tells_of_everything(run: Run) -> None:
    ended = run("--help")
    assert ended.code == 0
    for option in (
        "--clips",
        "--ablations",
        "--compare",
        "--predictions",
        "--format",
        "--json",
        "--markdown",
    ):
        assert option in ended.out


def test_help_does_not_wait_for_the_model() -> None:
    probe = (
        "import sys, vm.cli; print([name for name in ('torch', 'transformers', 'av') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_json_has_every_figure_of_every_system(run: Run, annotations: Path) -> None:
    shared = ("--checkpoint", CHECKPOINT, "--videos", VIDEOS)
    ended = run(annotations, *shared, "--ablations", "--compare", f"again={CHECKPOINT}", "--json")
    assert (ended.code, ended.err) == (0, "")
    report = json.loads(ended.out)
    systems = ["chain", "without verifier", "without planner", "again", "whole video", "random"]
    assert list(report["systems"]) == list(report["failures"]) == systems
    assert list(report["differences"]) == systems[1:]
    assert report["systems"]["chain"] == report["systems"]["again"] != ""
    assert set(report["failures"].values()) == {1}
    assert (report["samples"], report["videos"]) == (5, 3)
    chain = report["figures"]["all"]["chain"]
    assert {name: chain[name]["count"] for name in ("Route", "R1@0.5", "mIoU", "Acc")} == {
        "Route": 4,
        "R1@0.5": 4,
        "mIoU": 4,
        "Acc": 4,
    }
    assert report["figures"]["all"]["again"] == chain
    assert "Route" not in report["figures"]["all"]["without planner"]
    assert {found["value"] for found in report["differences"]["again"].values()} == {0}


def test_without_a_checkpoint_the_bundled_one_is_measured(run: Run, annotations: Path, bundled: Path) -> None:
    shared = (annotations, "--videos", VIDEOS, "--limit", 1, "--no-baselines", "--json")
    ended, named = run(*shared), run(*shared, "--checkpoint", bundled)
    assert (ended.code, ended.err) == (0, f"videomind: {BUNDLED_NOTICE}\n")
    assert (named.out, named.err) == (ended.out, "")


def test_tables_for_a_terminal_and_for_a_readme(run: Run, annotations: Path) -> None:
    shared = (
        annotations,
        "--checkpoint",
        CHECKPOINT,
        "--videos",
        VIDEOS,
        "--limit",
        2,
        "--predictions",
        "kept",
    )
    shown = run(*shared)
    assert "R1@0.5" in shown.out
    assert "Questions: 2, videos: 1." in shown.out
    written = run(*shared, "--markdown", "--no-baselines")
    assert "| figure | n | chain |\n" in written.out
    assert (written.code, written.err) == (0, "")


def test_a_switch_leaves_a_role_out(run: Run, annotations: Path) -> None:
    shared = (annotations, "--checkpoint", CHECKPOINT, "--videos", VIDEOS, "--no-baselines", "--json")
    ended = run(*shared, "--without-planner", "--without-verifier", "--predictions", "kept")
    assert "Route" not in json.loads(ended.out)["figures"]["all"]["chain"]
    kept = [json.loads(line) for line in Path("kept").read_text().splitlines()]
    assert not any(one["planned"] for one in kept)
    found = [one["confidences"] for one in kept if one["error"] is None]
    assert len(found) == 4
    assert all(confidences == sorted(confidences, reverse=True) for confidences in found)


def test_scenes_are_drawn_and_asked(run: Run) -> None:
    ended = run(
        *("scenes", "--clips", 1, "--held-out-clips", 2, "--split", "validation", "--workdir", "drawn"),
        *("--checkpoint", CHECKPOINT, "--json"),
    )
    assert (ended.code, ended.err) == (0, "")
    report = json.loads(ended.out)
    assert {"all", "held-out combinations", "ground", "ground-answer", "answer"} <= report["figures"].keys()
    assert report["apart"] == ["held-out combinations"]
    assert report["figures"]["all"]["random"]["Route"]["count"] == 3
    assert list(Path("drawn").glob("*/scene-*"))


@pytest.fixture
def sample_clips(run: Run) -> Run:
    return partial(run.func, "sample-clips")  # type: ignore[attr-defined]


def test_sample_clips_are_written_with_their_truth_and_kept(sample_clips: Run, tmp_path: Path) -> None:
    target = tmp_path / "samples"
    ended = sample_clips(target, "--clips", 1)
    *told, last = ended.out.splitlines()
    assert (ended.code, ended.err, last) == (0, "", str(target / "truth.jsonl"))
    (truth,) = map(json.loads, (target / "truth.jsonl").read_text().splitlines())
    video = target / truth["video"]
    assert truth["mode"] == "ground-answer"
    assert truth["answer"] in truth["options"]
    assert len(told) == 1
    assert told[0].startswith(f"{video}  0:")
    assert told[0].endswith(truth["question"])

    video.write_bytes(b"kept")
    again = sample_clips(target, "--clips", 1, "--json")
    assert json.loads(again.out) == {**truth, "video": str(video)}
    assert video.read_bytes() == b"kept"


def test_sample_clips_can_be_measured_on(
    sample_clips: Run, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clip, "write", lambda clip, folder: VIDEOS / "tiny3s.mp4")
    sample_clips(tmp_path)
    ended = run(tmp_path / "truth.jsonl", "--checkpoint", CHECKPOINT, "--no-baselines", "--json")
    report = json.loads(ended.out)
    assert (report["samples"], report["failures"]) == (3, {"chain": 0})


@pytest.mark.parametrize(
    ("arguments", "code"), [((), 2), (("x", "--clips", 0), 2), (("x", "--first", 10**6), 3)]
)
def test_sample_clips_that_make_no_sense_are_refused(
    sample_clips: Run, tmp_path: Path, arguments: tuple[object, ...], code: int
) -> None:
    assert sample_clips(*arguments)[:2] == (code, "")
    assert list(tmp_path.iterdir()) == []


def test_cgbench_has_figures_of_its_own(run: Run, tmp_path: Path) -> None:
    row = {
        "video_uid": "tiny3s",
        "question": "What?",
        "choices": ["a", "b"],
        "right_answer": "B",
        "clue_intervals": [[0, 1]],
        "sub_category": "x",
    }
    (tmp_path / "cgbench.json").write_text(json.dumps([row]))
    ended = run(
        *("cgbench.json", "--format", "cgbench", "--videos", VIDEOS, "--checkpoint", CHECKPOINT),
        *("--markdown", "--without-planner"),
    )
    assert "| rec.@IoU | 1 |" in ended.out
    assert "| long-acc. | 1 |" in ended.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("scenes", "--checkpoint", CHECKPOINT, "--json", "--markdown"), 2, "choose one of"),
        (("scenes", "--checkpoint", CHECKPOINT, "--compare", "x"), 2, "not NAME=DIR"),
        (("scenes", "--checkpoint", CHECKPOINT, "--compare", "x="), 2, "not NAME=DIR"),
        (("scenes", "--checkpoint", CHECKPOINT, "--compare", "random=x"), 2, "already"),
        (("scenes", "--checkpoint", CHECKPOINT, "--clips", "0"), 2, "--clips"),
        (("scenes", "--checkpoint", CHECKPOINT, "--first", "2000000"), 3, "ask for fewer"),
        (("scenes", "--checkpoint", "none"), 4, "none is not a folder"),
        (("scenes", "--checkpoint", CHECKPOINT, "--compare", "x=none"), 4, "none is not a folder"),
        (("scnes", "--checkpoint", CHECKPOINT), 3, "scnes: no such file"),
        (
            ("questions.jsonl", "--checkpoint", CHECKPOINT, "--min-answer-seconds", "inf"),
            3,
            "min_answer_seconds",
        ),
        (("questions.jsonl", "--checkpoint", CHECKPOINT, "--predictions", "questions.jsonl"), 3, "line 1"),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_drawn(
    run: Run, annotations: Path, arguments: tuple[object, ...], code: int, words: str
) -> None:
    before = annotations.read_bytes()
    ended = run(*arguments)
    assert ended.code == code
    assert words in " ".join(ended.err.replace("│", " ").split())
    assert "Traceback" not in ended.err
    assert not Path("scenes").exists()
    assert annotations.read_bytes() == before


def test_a_run_that_was_killed_goes_on(run: Run, annotations: Path, tmp_path: Path) -> None:
    """Killed with no chance to tidy up, after it has kept something and before it has kept everything."""
    arguments = [
        *(str(annotations), "--checkpoint", str(CHECKPOINT), "--videos", str(VIDEOS), "--ablations"),
        *("--predictions", "kept", "--json", "--device", "cpu"),
    ]
    kept = tmp_path / "kept"
    process = commands.start("evaluate", *arguments, folder=tmp_path)
    try:
        while process.returncode is None and (not kept.exists() or b"\n" not in kept.read_bytes()):
            time.sleep(0.002)
    finally:
        process.end()
    assert process.returncode == -signal.SIGKILL
    survived = kept.read_bytes()
    whole_lines = survived[: survived.rfind(b"\n") + 1]

    went_on = run(*arguments)
    assert went_on.code == 0
    assert kept.read_bytes().startswith(whole_lines)
    keys = [json.loads(line)["key"] for line in kept.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 4 * 5  # four systems with a model, five questions
    arguments[arguments.index("kept")] = "fresh"
    assert json.loads(run(*arguments).out) == json.loads(went_on.out)
