import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vm.config import ChainSettings
from vm.errors import MissingRole, TrainingDataError, TrainingError
from vm.mind import VideoMind
from vm.moments import Span
from vm.training.rows import Row, read_rows
from vm.training.verifier_data import make_verifier_data

CHAIN = ChainSettings()
Make = Callable[..., tuple[int, int]]


@pytest.fixture
def rows(portrait_video: Path, short_video: Path) -> list[Row]:
    return [
        Row(1, portrait_video, "the man turns around", spans=(Span(2, 4),)),
        Row(3, short_video, "a dog", spans=(Span(0, 1), Span(2, 3))),
        Row(4, portrait_video, "somebody comes", spans=(Span(0, 9),)),
    ]


def make(mind: VideoMind, rows: list[Row], out: Path, **given: Any) -> tuple[int, int]:
    told = given.pop("told", None)
    shown = given.pop("shown", [])
    report = pytest.fail if told is None else told.append
    chain = given.pop("chain", CHAIN)
    return make_verifier_data(mind, rows, out, chain, report, lambda _, done: shown.append(done))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_spans_are_labelled_by_how_well_they_fit(
    mind: VideoMind, rows: list[Row], tmp_path: Path
) -> None:
    out, shown = tmp_path / "judged.jsonl", list[float]()
    positive, negative = make(mind, rows, out, shown=shown)
    found = read(out)
    assert positive + negative == len(found)
    asked = [entry["query"] for entry in found]
    assert [asked.count(row.text) for row in rows] == [5, 3, 5]  # three seconds have three points
    assert positive == sum(entry["label"] == "Yes" for entry in found) > 0
    for entry in found:
        row = next(row for row in rows if row.text == entry["query"])
        best = max(Span(*entry["candidate"]).iou(span) for span in row.spans)
        assert entry["iou"] == pytest.approx(best, abs=2e-3)
        assert (entry["label"] == "Yes") == (entry["iou"] >= 0.5)
    with mind.open(rows[0].video) as watched:
        candidates = watched.ask(rows[0].text, mode="ground", verify=False).candidates
    spans = [tuple(e["candidate"]) for e in found if e["query"] == rows[0].text]
    assert spans == [pytest.approx((c.span.start, c.span.end), abs=1e-3) for c in candidates]
    assert shown == [1 / 3, 2 / 3, 1.0]


def test_what_is_written_can_be_trained_on(mind: VideoMind, rows: list[Row], tmp_path: Path) -> None:
    make(mind, rows, tmp_path / "deep" / "judged.jsonl")
    read_back, bad = read_rows(tmp_path / "deep" / "judged.jsonl", "verifier")
    assert not bad
    assert {row.video.resolve() for row in read_back} == {row.video.resolve() for row in rows}


def test_an_interrupted_run_is_gone_on_with(
    mind: VideoMind, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(mind, rows, tmp_path / "whole.jsonl")
    out, partial = tmp_path / "judged.jsonl", tmp_path / "judged.jsonl.partial"
    seen: list[float] = []

    def stop(stage: str, done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_verifier_data(mind, rows, out, CHAIN, pytest.fail, stop)
    assert not out.exists()
    with partial.open("a") as file:
        file.write('{"line": 3, "fou')
    make(mind, rows, out, shown=seen)
    assert seen == [2 / 3, 1.0]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not partial.exists()


def test_what_another_run_has_begun_is_not_mixed_in(mind: VideoMind, rows: list[Row], tmp_path: Path) -> None:
    out, partial = tmp_path / "judged.jsonl", tmp_path / "judged.jsonl.partial"
    for content in ("", "7\n", '{"of": "something else"}\n', "\xff"):
        partial.write_text(content)
        with pytest.raises(TrainingError, match="remove it"):
            make(mind, rows, out)
        assert partial.read_text() == content


def test_a_video_that_cannot_be_read_is_told_and_left_out(
    mind: VideoMind, rows: list[Row], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    bad = [Row(7, broken, "a dog", spans=(Span(0, 1),))]
    told: list[str] = []
    make(mind, bad + rows[:1], tmp_path / "judged.jsonl", told=told)
    assert len(told) == 1
    assert str(broken) in told[0]
    assert len(read(tmp_path / "judged.jsonl")) == 5
    with pytest.raises(TrainingDataError, match="no moment"):
        make(mind, bad, tmp_path / "none.jsonl", told=told)
    assert not (tmp_path / "none.jsonl").exists()


def test_a_checkpoint_without_grounder_cannot_propose(
    mind: VideoMind, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(mind.cast), "has", lambda self, role: False)
    with pytest.raises(MissingRole, match="no grounder"):
        make(mind, rows, tmp_path / "judged.jsonl")


def test_a_folder_that_cannot_be_written_is_told(mind: VideoMind, rows: list[Row], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        make(mind, rows, tmp_path / "file" / "judged.jsonl")
