import json
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate
from PIL import Image

from vm.bundled import BUNDLED_NOTICE

PARITY = Path(__file__).parents[1] / "parity"
VIDEO = PARITY / "videos" / "tiny3s.mp4"
CHECKPOINT = PARITY / "checkpoint"  # an untrained miniature: its answers mean nothing
SCHEMA = json.loads(files("vm").joinpath("result.schema.json").read_text(encoding="utf-8"))


Run = Callable[..., Any]


def test_a_question_gets_a_readable_result(run: Run) -> None:
    ended = run("ask", VIDEO, "when is it red?", "--checkpoint", CHECKPOINT, "--mode", "ground-answer")
    assert (ended.code, ended.err) == (0, "")
    names = [line.split()[0] for line in ended.out.splitlines()[:4]]
    assert names == ["question", "answer", "seen", "plan"]
    assert " 1 0:0" in ended.out
    assert "━" in ended.out


def test_without_a_checkpoint_the_bundled_one_answers_and_is_told_of_once(
    run: Run, bundled: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "questions.txt"
    asked.write_text("when?\nwhy?\n")
    call = ("ask", VIDEO, "--question-file", asked, "--mode", "answer", "--json")
    ended, named = run(*call), run(*call, "--checkpoint", bundled)
    assert (ended.code, ended.err) == (0, f"videomind: {BUNDLED_NOTICE}\n")
    assert (named.code, named.err) == (0, "")
    told, told_named = ([json.loads(line) for line in out.splitlines()] for out in (ended.out, named.out))
    assert [result["answer"] for result in told] == [result["answer"] for result in told_named]
    assert told[0]["checkpoint"] == told_named[0]["checkpoint"]


def test_json_is_a_documented_result_per_question(run: Run, tmp_path: Path) -> None:
    asked = tmp_path / "questions.txt"
    asked.write_text('when is it réd?\n{"question": "which?", "options": ["a dog", "a cat"]}\n', "utf-8")
    ended = run(
        "ask", VIDEO, "--question-file", asked, "--checkpoint", CHECKPOINT, "--json", "--mode", "answer"
    )
    results = [json.loads(line) for line in ended.out.splitlines()]
    for result in results:
        validate(result, SCHEMA)
    assert [result["question"] for result in results] == ["when is it réd?", "which?"]
    assert results[1]["answer"]["text"] in ("a dog", "a cat")
    assert (ended.code, ended.err) == (0, "")


def test_a_second_call_with_a_feature_cache_looks_at_nothing(run: Run, tmp_path: Path) -> None:
    call = ("ask", VIDEO, "when?", "--checkpoint", CHECKPOINT, "--json", "--feature-cache", tmp_path / "kept")
    first, again = (json.loads(run(*call).out) for _ in range(2))
    assert [{"decode", "vision"} & told.pop("seconds").keys() for told in (first, again)] == [
        {"decode", "vision"},
        set(),
    ]
    assert first == again


def test_a_bad_question_does_not_lose_the_others(run: Run, tmp_path: Path) -> None:
    asked = tmp_path / "questions.txt"
    asked.write_text('{"question": 1}\nwhen?\n{"question": "which?", "options": ["one"]}\nwhy?\n')
    ended = run(
        "ask", VIDEO, "--question-file", asked, "--checkpoint", CHECKPOINT, "--json", "--mode", "answer"
    )
    assert [json.loads(line)["question"] for line in ended.out.splitlines()] == ["when?", "why?"]
    first, second = ended.err.splitlines()
    assert first.startswith(f"videomind: {asked}, line 1: question must be text")
    assert second.startswith(f"videomind: {asked}, line 3: give between 2 and")
    assert ended.code == 3


def test_questions_may_come_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"when?\n")))
    monkeypatch.setenv("VIDEOMIND_CHECKPOINT", str(CHECKPOINT))
    ended = run("ask", VIDEO, "--question-file", "-", "--json", "--mode", "answer")
    assert json.loads(ended.out)["question"] == "when?"


def test_subtitles_options_and_settings_reach_the_model(run: Run, tmp_path: Path) -> None:
    subtitles = tmp_path / "speech.srt"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:01,500\nIt is a cat.\n")
    ended = run(
        *("ask", VIDEO, "which?", "--checkpoint", CHECKPOINT, "--base", PARITY / "base"),
        *("--option", "a dog", "--option", "a cat", "--subtitles", subtitles, "--window", "none"),
        *("--min-answer-seconds", "0:02", "--device", "cpu", "--dtype", "float32", "--json"),
        *("--mode", "ground-answer"),
    )
    result = json.loads(ended.out)
    assert result["options"] == ["a dog", "a cat"]
    assert result["answer"]["option"] in ("A", "B")
    assert result["answer"]["span"]["end"] - result["answer"]["span"]["start"] >= 2.0 - 1e-6


def test_contact_sheets_of_several_questions_are_numbered(run: Run, tmp_path: Path) -> None:
    asked = tmp_path / "questions.txt"
    asked.write_text("when?\nwhy?\n")
    target = tmp_path / "sheet.png"
    call = ("ask", VIDEO, "--checkpoint", CHECKPOINT, "--mode", "answer", "--contact-sheet", target)
    assert run(*call, "when?").code == 0
    assert run(*call, "--question-file", asked).code == 0
    for name in ("sheet.png", "sheet-1.png", "sheet-2.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask",),
        ("ask", VIDEO, "--checkpoint", "x"),
        ("ask", VIDEO, "when?", "--question-file", "x", "--checkpoint", "x"),
        ("ask", VIDEO, "--question-file", "x", "--option", "a", "--checkpoint", "x"),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--mode", "guess"),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--window", "soon"),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--window", "49"),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--min-answer-seconds", "nan"),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--contact-sheet", PARITY),
        ("ask", VIDEO, "when?", "--checkpoint", "x", "--contact-sheet", PARITY / "nowhere" / "out.png"),
        ("export-clip", VIDEO, "2", "1", "out.mp4"),
        ("export-clip", VIDEO, "one", "2", "out.mp4"),
        ("export-clip", VIDEO, "1", "2", VIDEO),
        ("pull", "a/b"),
        ("import-checkpoint", "x"),
        ("unheard-of",),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[object, ...]) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err


def test_bad_input_is_one_line_and_ends_with_3(run: Run, tmp_path: Path) -> None:
    call = ("when?", "--checkpoint", CHECKPOINT)
    subtitles = tmp_path / "empty\x1b[2J.srt"
    subtitles.touch()
    for arguments in (
        ("ask", tmp_path / "missing.mp4", *call),
        ("ask", Path(__file__), *call),
        ("ask", VIDEO, *call, "--subtitles", subtitles),
        ("ask", VIDEO, "", "--checkpoint", CHECKPOINT, "--mode", "answer"),
        ("ask", VIDEO, "\udcff", "--checkpoint", CHECKPOINT),
        ("probe", tmp_path),
    ):
        ended = run(*arguments)
        assert (ended.code, ended.out) == (3, "")
        assert ended.err.startswith("videomind: ")
        assert ended.err.count("\n") == 1
        assert "\x1b" not in ended.err


def test_a_bad_checkpoint_ends_with_4(run: Run, tmp_path: Path) -> None:
    for arguments in (
        ("ask", VIDEO, "when?", "--checkpoint", tmp_path),
        ("ask", VIDEO, "when?", "--checkpoint", CHECKPOINT, "--device", "toaster"),
        ("import-checkpoint", tmp_path, "--constants", tmp_path / "missing.py"),
    ):
        ended = run(*arguments)
        assert (ended.code, ended.out) == (4, "")
        assert ended.err.startswith("videomind: ")
        assert ended.err.count("\n") == 1


def test_a_bundled_checkpoint_that_is_not_whole_ends_with_4(run: Run, bundled: Path) -> None:
    (bundled / "base" / "model.safetensors").unlink()
    ended = run("ask", VIDEO, "when?")
    assert (ended.code, ended.out) == (4, "")
    assert f"{bundled / 'base' / 'model.safetensors'} is missing" in ended.err
    assert "--checkpoint" in ended.err
    assert ended.err.count("\n") == 1


def test_an_interrupt_ends_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", TextIOWrapper(Interrupted()))
    assert run("ask", VIDEO, "--question-file", "-", "--checkpoint", "x").code == 130


def test_imported_prompts_stand_in_the_checkpoint(run: Run, tmp_path: Path) -> None:
    constants = tmp_path / "constants.py"
    tokens = {"REG_TOKEN": "<|r|>", "SEG_S_TOKEN": "<|s|>", "SEG_E_TOKEN": "<|e|>"}
    prompts = {f"{role}_PROMPT": f"As {role}: '{{}}'" for role in ("PLANNER", "GROUNDER", "VERIFIER")}
    constants.write_text("".join(f"{name} = {text!r}\n" for name, text in {**tokens, **prompts}.items()))
    call = ("import-checkpoint", tmp_path, "--constants", constants)
    assert run(*call) == (0, f"{tmp_path / 'roles.json'}\n", "")
    assert (run(*call).code, run(*call, "--force").code) == (4, 0)


def test_probe_tells_the_facts(run: Run) -> None:
    facts = json.loads(run("probe", VIDEO, "--json").out)
    validate(facts, SCHEMA["properties"]["video"])
    assert f"{facts['width']} x {facts['height']} pixels" in run("probe", VIDEO).out


def test_a_clip_is_a_video_of_its_own(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    ended = run("export-clip", VIDEO, "0:01", "2", target)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{target}  0:01.0 - 0:02.0  ")
    assert 0.5 < json.loads(run("probe", target, "--json").out)["duration"] < 3.0


@pytest.mark.parametrize(
    "command", ["ask", "probe", "export-clip", "pull", "import-checkpoint", "sample-clips"]
)
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert ended.code == 0
    assert f" videomind {command} " in ended.out


def test_help_does_not_wait_for_the_model_libraries() -> None:
    code = "import sys, vm.cli; print(sorted({'torch', 'transformers', 'av'} & sys.modules.keys()))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout == "[]\n"
