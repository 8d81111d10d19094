from pathlib import Path

import pytest
from PIL import Image

from vm.evaluation.samples import Sample
from vm.moments import Span
from worker.batch import Batch
from worker.inquiry import Output, ask_all
from worker.jobs import Request

A, B = Request("a"), Request("b")


def test_every_part_has_its_exit_code_and_a_missing_video_costs_only_itself(
    store, mind, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    def fail() -> None:
        raise RuntimeError("odd")

    mind.answers["b"] = fail
    batches = [Batch(tmp_path / "none.mp4", (A,)), Batch(video, (A, B))]
    assert list(ask_all(batches, Output())) == [3, 0, 1]
    out, err = capsys.readouterr()
    assert err.startswith("videomind: cannot read")
    assert "through the door" in out
    assert "odd" in out


def test_a_truth_is_shown_under_its_own_question(store, mind, video: Path, capsys: pytest.CaptureFixture):
    batch = Batch(video, (A, B), {B: Sample(str(video), "b", spans=(Span(1.0, 1.6),))})
    assert list(ask_all([batch], Output())) == [0, 0]
    first, _, second = capsys.readouterr().out.partition("question    b")
    assert "moments" not in first
    assert "moments  0:01.0 - 0:01.6  0:01.0 - 0:01.6  1.00" in second


def test_json_is_the_result_alone(store, mind, video: Path, capsys: pytest.CaptureFixture):
    batch = Batch(video, (A,), {A: Sample(str(video), "a", spans=(Span(1.0, 1.6),))})
    list(ask_all([batch], Output(as_json=True)))
    out, _ = capsys.readouterr()
    assert out.startswith('{"question": "a"')
    assert out.count("\n") == 1


def test_contact_sheets_are_numbered_over_all_videos(store, mind, video: Path, tmp_path: Path, encode):
    other, target = encode(tmp_path / "other.mp4", seed=1), tmp_path / "sheet.png"
    batches = [Batch(video, (A, B)), Batch(tmp_path / "none.mp4", (A,)), Batch(other, (A,))]
    assert list(ask_all(batches, Output(contact_sheet=target))) == [0, 0, 0, 0, 3, 0, 0]
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["sheet-1.png", "sheet-2.png", "sheet-4.png"]
    with Image.open(tmp_path / "sheet-4.png") as picture:
        assert picture.format == "PNG"


def test_a_single_contact_sheet_has_the_given_name_and_a_failure_has_none(
    store, mind, video: Path, tmp_path: Path
):
    def fail() -> None:
        raise RuntimeError("odd")

    mind.answers["b"] = fail
    list(ask_all([Batch(video, (A,))], Output(contact_sheet=tmp_path / "one.png")))
    assert list(ask_all([Batch(video, (B,))], Output(contact_sheet=tmp_path / "two.png"))) == [1, 0]
    assert [path.name for path in tmp_path.glob("*.png")] == ["one.png"]


def test_a_contact_sheet_that_cannot_be_written_is_complained_of(
    store, mind, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    output = Output(contact_sheet=tmp_path / "gone" / "sheet.png")
    assert list(ask_all([Batch(video, (A,))], output)) == [0, 3]
    assert "cannot be written" in capsys.readouterr().err
