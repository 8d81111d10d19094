from pathlib import Path

import pytest

from vm.errors import EvaluationError
from vm.evaluation import scene_samples as module
from vm.evaluation.samples import Sample
from vm.evaluation.scene_samples import HELD_OUT, scene_samples, world_version
from vm.scenes.clip import Clip, clips
from vm.video import probe


def make(folder: Path, count: int = 1, held_out: int = 1, first: int = 0) -> list[Sample]:
    return scene_samples("validation", first, count, held_out, folder, lambda stage, done: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


def test_a_clip_is_asked_one_question_of_each_mode(place: Path) -> None:
    usual = [one for one in make(place) if not one.apart]
    assert {one.mode for one in usual} == {"ground", "ground-answer", "answer"}
    assert len({one.video for one in usual}) == 1
    assert all(one.duration == pytest.approx(probe(Path(one.video)).duration, abs=0.1) for one in usual)
    for one in usual:
        assert bool(one.spans) == (one.mode != "answer") == bool(one.query)
        assert bool(one.options) == (one.mode != "ground")


def test_only_held_out_combinations_stand_apart(place: Path) -> None:
    samples = make(place)
    apart = [one for one in samples if one.apart]
    (clip,) = clips("validation", 1, True)
    assert [one.question for one in apart] == [q.question for q in clip.questions if q.held_out]
    assert apart
    assert {one.groups for one in apart} == {(HELD_OUT,)}
    assert not any(HELD_OUT in one.groups for one in samples if not one.apart)


def test_clips_are_drawn_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(place)
    monkeypatch.setattr(Clip, "frame", lambda *given: pytest.fail("drawn again"))
    assert make(place) == before


def test_another_world_has_clips_of_its_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {one.id for one in make(place)}
    assert Path(make(place)[0].video).parent.name == world_version()
    monkeypatch.setattr(module, "world_version", lambda: "other")
    assert not before & {one.id for one in make(place, held_out=0)}


def test_more_clips_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="validation split has 1000000 clips"):
        make(tmp_path, count=2, first=999_999)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="cannot be written"):
        make(tmp_path / "file")
