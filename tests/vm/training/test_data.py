from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import vm.training.data
from vm.config import ChainSettings
from vm.errors import TrainingDataError
from vm.mind import VideoMind
from vm.moments import Span
from vm.roles.verifier import zoomed_view
from vm.training.assignments import Assignment
from vm.training.data import LessonBook
from vm.training.feature_store import FeatureStore
from vm.training.lessons import Example

ASKED = (Example((1, 2), (3,), ((2.0, 4.0), (8.0, 30.0))),)


def book(
    mind: VideoMind, role: str, shown: Sequence[tuple[Path, Span | None]], told: list[str] | None = None
) -> LessonBook:
    assignments = [Assignment(video, span, (7,), ASKED) for video, span in shown]
    report = pytest.fail if told is None else told.append
    return LessonBook(mind, role, assignments, FeatureStore(None, 2**28, 0), report)


@pytest.mark.parametrize(
    ("role", "span"),
    [("planner", None), ("grounder", None), ("answerer", Span(1, 4)), ("answerer", None)],
)
def test_a_lesson_shows_what_the_role_is_shown(
    mind: VideoMind, portrait_video: Path, role: str, span: Span | None
) -> None:
    lesson = book(mind, role, [(portrait_video, span)])[0]
    with mind.open(portrait_video) as watched:
        footage = watched._footage
        whole = None if role == "planner" else Span(0, footage.duration)
        view = footage.view(mind.cast.settings(role), span or whole)
        assert torch.equal(lesson.features, footage.features([view])[0])
        assert lesson.token_grid == view.token_grid
    assert (lesson.before, lesson.marked) == ((7,), None)


def test_the_verifier_is_shown_the_candidate_widened_and_marked(
    mind: VideoMind, portrait_video: Path
) -> None:
    candidate = Span(3, 5)
    lesson = book(mind, "verifier", [(portrait_video, candidate)])[0]
    with mind.open(portrait_video) as watched:
        view = zoomed_view(mind.cast, watched._footage, candidate, ChainSettings())
        assert torch.equal(lesson.features, watched._footage.features([view])[0])
    assert lesson.marked == view.marked
    assert lesson.marked is not None


def test_spans_become_fractions_of_what_is_shown(mind: VideoMind, portrait_video: Path) -> None:
    given = [(portrait_video, None), (portrait_video, Span(1, 5))]
    whole, part = (book(mind, "grounder", given)[i].examples[0].spans for i in (0, 1))
    assert whole == (pytest.approx((2 / 9, 4 / 9)), pytest.approx((8 / 9, 1)))
    assert part[0] == pytest.approx((1 / 4, 3 / 4))


def test_a_video_is_opened_once_while_its_features_are_kept(
    mind: VideoMind, portrait_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = vm.training.data.open_video

    def counting(video: Path) -> object:
        opened.append(video)
        return real(video)

    monkeypatch.setattr(vm.training.data, "open_video", counting)
    lessons = book(mind, "planner", [(portrait_video, None)])
    first, again = lessons[0], lessons[0]
    assert opened == [portrait_video]
    assert torch.equal(first.features, again.features)


def test_a_video_that_cannot_be_read_is_told_once_and_the_next_lesson_stands_in(
    mind: VideoMind, short_video: Path, portrait_video: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 100)
    told: list[str] = []
    shown = [(short_video, None), (broken, None), (portrait_video, None), (broken, None)]
    lessons = book(mind, "planner", shown, told)
    grids = [lessons[i].token_grid for i in range(4)]
    assert grids == [grids[0], grids[2], grids[2], grids[0]]
    assert grids[0] != grids[2]
    assert len(told) == 1
    assert str(broken) in told[0]
    with pytest.raises(TrainingDataError, match="none of the videos"):
        book(mind, "planner", shown[1:2], told)[0]


def test_a_video_that_goes_missing_is_no_end(mind: VideoMind, short_video: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(short_video.read_bytes())
    told: list[str] = []
    lessons = book(mind, "planner", [(moved, None), (short_video, None)], told)
    first = lessons[0]
    moved.unlink()
    assert torch.equal(lessons[0].features, first.features)
    assert len(told) == 1


def test_a_segment_behind_the_end_is_left_out_and_the_videos_other_rows_are_not(
    mind: VideoMind, portrait_video: Path
) -> None:
    told: list[str] = []
    lessons = book(mind, "answerer", [(portrait_video, Span(20, 30)), (portrait_video, Span(1, 4))], told)
    assert torch.equal(lessons[0].features, lessons[1].features)
    assert len(told) == 1
    assert "before the segment" in told[0]
