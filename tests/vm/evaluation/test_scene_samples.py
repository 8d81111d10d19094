from pathlib import Path

import pytest

from vm.errors import EvaluationError
from vm.evaluation import scene_samples as module
from vm.evaluation.samples import Sample
from vm.evaluation.scene_samples import HELD_OUT, one_of_each, scene_samples, world_version
from vm.scenes.clip import Clip, clips
from vm.scenes.vocabulary import SEEDS
from vm.scenes.wording import SceneQuestion
from vm.video import probe


def make(folder: Path, count: int = 1, held_out: int = 1, first: int = 0) -> list[Sample]:
    return scene_samples("validation", first, count, held_out, folder, lambda stage, done: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """The clips that were to be written; none is."""
    written: list[Clip] = []

    def write(clip: Clip, folder: Path) -> Path:
        written.append(clip)
        return folder / str(clip.seed)

    monkeypatch.setattr(Clip, "write", write)
    return written


def test_a_clip_is_asked_one_question_of_each_mode(place: Path) -> None:
    usual = [one for one in make(place) if not one.apart]
    assert {one.mode for one in usual} == {"ground", "ground-answer", "answer"}
    assert len({one.video for one in usual}) == 1
    assert all(one.duration == pytest.approx(probe(Path(one.video)).duration, abs=0.1) for one in usual)
    for one in usual:
        assert bool(one.spans) == (one.mode != "answer") == bool(one.query)
        assert bool(one.options) == (one.mode != "ground")


def test_only_held_out_combinations_stand_apart(place: Path) -> None:
    samples = make(place, held_out=2)
    apart = [one for one in samples if one.apart]
    rare = [q.question for clip in clips("validation", 2, True) for q in clip.questions if q.held_out]
    assert [one.question for one in apart] == rare
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


def test_one_question_a_clip_asks_for_each_mode_in_turn(tmp_path: Path, undrawn: list[Clip]) -> None:
    samples = one_of_each(4, 2, tmp_path, lambda stage, done: None)
    assert [one.mode for one in samples] == ["ground-answer", "ground", "answer", "ground-answer"]
    assert [clip.seed for clip in undrawn] == list(SEEDS["test"][2:6])
    for clip, one in zip(undrawn, samples, strict=True):
        (asked,) = (question for question in clip.questions if question.mode == one.mode)
        assert (one.question, one.spans, one.answer) == (asked.question, asked.spans, asked.answer)
        assert (Path(one.video).name, one.duration) == (str(clip.seed), clip.duration)


def test_a_clip_that_has_nothing_to_ask_in_its_turn_is_left_out(
    tmp_path: Path, undrawn: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    def questions(clip: Clip) -> tuple[SceneQuestion, ...]:
        modes = ("answer", "ground-answer", "ground") if clip.seed % 2 else ("answer",)
        return tuple(SceneQuestion("What?", mode, "topic") for mode in modes)

    monkeypatch.setattr(Clip, "questions", property(questions))
    samples = one_of_each(3, 0, tmp_path, lambda stage, done: None)
    assert [one.mode for one in samples] == ["ground-answer", "ground", "answer"]
    assert [clip.seed - SEEDS["test"][0] for clip in undrawn] == [1, 3, 4]


def test_more_clips_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="validation split has 1000000 clips"):
        make(tmp_path, count=2, first=999_999)
    with pytest.raises(EvaluationError, match="test split has 1000000 clips"):
        one_of_each(2, 999_999, tmp_path, lambda stage, done: None)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="cannot be written"):
        make(tmp_path / "file")
