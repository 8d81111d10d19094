import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from vm import bundled
from vm.errors import CheckpointError
from worker import options
from worker.settings import Settings


@pytest.fixture
def run(videomind: Callable, mind, url: str) -> Callable:
    return lambda *arguments: videomind("run", "--database", url, "--checkpoint", "fake", *arguments)


def test_run_shows_what_was_found(run: Callable, video: Path):
    code, out, err = run(video, "-q", "Who comes in?")
    assert (code, err) == (0, "")
    assert "through the door" in out
    assert "verifier 0.70" in out


def test_run_gives_the_documented_json_one_line_a_question(run: Callable, video: Path, found):
    code, out, _ = run(video, "-q", "a", "-q", "b", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["question"] for line in lines] == ["a", "b"]
    assert lines[0]["moments"] == found("a").to_dict()["moments"]
    assert lines[0].keys() == found("a").to_dict().keys()


def test_without_a_checkpoint_the_bundled_one_is_told_of(
    videomind: Callable, mind, url: str, video: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bundled, "_PARTS", ())
    monkeypatch.setattr(options, "current", lambda: Settings(database_url=url))
    code, out, err = videomind("run", video, "-q", "a", "-q", "b", "--json")
    assert (code, len(out.splitlines())) == (0, 2)
    assert err == f"videomind: {bundled.BUNDLED_NOTICE}\n"


def test_a_bundled_checkpoint_that_is_not_whole_ends_with_4(
    videomind: Callable, url: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bundled, "BUNDLED_CHECKPOINT", tmp_path)
    monkeypatch.setattr(options, "current", lambda: Settings(database_url=url))
    code, out, err = videomind("run", video, "-q", "a")
    assert (code, out) == (4, "")
    assert f"{tmp_path / 'config.json'} is missing" in err


def test_options_mode_and_settings_reach_the_analysis(run: Callable, video: Path, store):
    run(video, "-q", "a", "--option", "x", "--option", "y", "--mode", "ground", "--window", "none")
    with store.engine.begin() as connection:
        row = connection.exec_driver_sql("SELECT options, mode, settings FROM analyses").one()
    assert row == ('["x", "y"]', "ground", '{"window": null, "min_answer_seconds": null}')


def test_questions_may_come_from_a_file_with_their_options(run: Callable, video: Path, tmp_path: Path):
    asked = tmp_path / "questions.txt"
    asked.write_text('a\n{"question": "b", "options": ["x", "y"]}\n{broken\n')
    code, out, err = run(video, "--question-file", asked, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["question"], line["options"]) for line in lines] == [("a", []), ("b", ["x", "y"])]
    assert err.startswith(f"videomind: {asked}, line 3: ")
    assert (code, err.count("\n")) == (3, 1)


def test_annotations_bring_videos_questions_and_truths(run: Callable, video: Path, tmp_path: Path):
    truth = tmp_path / "truth.jsonl"
    row = {"video": str(video), "question": "a", "spans": [[1.0, 1.6]], "options": ["x", "y"], "answer": "x"}
    truth.write_text(json.dumps(row) + "\n")
    code, out, err = run("--annotations", truth)
    assert (code, err) == (0, "")
    assert "moments  0:01.0 - 0:01.6  0:01.0 - 0:01.6   1.00\n" in out
    assert "answer   x                through the door\n" in out


def test_contact_sheets_are_drawn(run: Callable, video: Path, tmp_path: Path):
    assert run(video, "-q", "a", "-q", "b", "--contact-sheet", tmp_path / "sheet.png")[0] == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["sheet-1.png", "sheet-2.png"]


def test_a_missing_video_costs_only_itself(run: Callable, video: Path, tmp_path: Path):
    code, out, err = run(tmp_path / "none.mp4", video, "-q", "a")
    assert code == 3
    assert err.startswith("videomind: cannot read")
    assert err.count("\n") == 1
    assert "through the door" in out


def test_a_bad_video_ends_with_3_and_its_reason(run: Callable, tmp_path: Path):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    code, out, err = run(tmp_path / "bad.mp4", "-q", "a")
    assert (code, out) == (3, "")
    assert "bad.mp4" in err


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("odd"), 1), (CheckpointError("other"), 4)])
def test_a_failed_analysis_decides_the_exit_code(
    run: Callable, video: Path, mind, error: Exception, code: int
):
    def fail() -> None:
        raise error

    mind.answers["a"] = fail
    found_code, out, err = run(video, "-q", "a", "-q", "b")
    assert (found_code, err) == (code, "")
    assert str(error) in out


def test_a_bad_checkpoint_ends_with_4_before_any_row_is_made(
    run: Callable, video: Path, store, monkeypatch: pytest.MonkeyPatch
):
    def refuse() -> None:
        raise CheckpointError("weights.safetensors is cut off")

    monkeypatch.setattr("worker.engine.loaded", refuse)
    assert run(video, "-q", "a")[::2] == (4, "videomind: weights.safetensors is cut off\n")
    assert store.analyses.outcomes([1]) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("-q",),
        ("-q", "a", "--mode", "guess"),
        ("-q", "a", "--window", "soon"),
        ("-q", "a", "--nosuch"),
        ("-q", "a", "--question-file", "questions.txt"),
        ("--question-file", "questions.txt", "--option", "a"),
        ("--annotations", "truth.jsonl"),
        ("-q", "a", "--contact-sheet", "nowhere/sheet.png"),
    ],
)
def test_wrong_usage_ends_with_2(run: Callable, video: Path, arguments: tuple[str, ...]):
    assert run(video, *arguments)[0] == 2


@pytest.mark.parametrize("arguments", [("-q", "a"), ("--annotations", "truth.jsonl", "-q", "a")])
def test_wrong_usage_without_a_video_ends_with_2(run: Callable, arguments: tuple[str, ...]):
    assert run(*arguments)[0] == 2


def test_an_empty_question_ends_with_3(run: Callable, video: Path):
    code, _, err = run(video, "-q", " ")
    assert code == 3
    assert err == "videomind: the question is empty: say what to look for\n"


def test_an_interruption_is_one_line_and_leaves_nothing_running(run: Callable, video: Path, mind, store):
    def interrupt() -> None:
        signal.raise_signal(signal.SIGTERM)

    mind.answers["a"] = interrupt
    assert run(video, "-q", "a") == (130, "", "videomind: interrupted\n")
    assert store.analyses.outcomes([1])[0].state == "queued"
