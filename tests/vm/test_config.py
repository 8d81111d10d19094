from pathlib import Path

import pytest

from vm.config import ChainSettings, RoleSettings
from vm.errors import QuestionError
from vm.mind import VideoMind


@pytest.mark.parametrize("change", [{"window": 49.0}, {"window": float("nan")}, {"min_answer_seconds": -1.0}])
def test_chain_settings_that_make_no_sense_are_the_askers_error(change: dict[str, float]) -> None:
    with pytest.raises(QuestionError, match=str(next(iter(change.values())))):
        ChainSettings(**change)  # type: ignore[arg-type]


def test_the_least_an_answerer_is_shown_is_a_length() -> None:
    with pytest.raises(ValueError, match="min_seconds is nan"):
        RoleSettings(1.0, 8, 784, 1000, min_seconds=float("nan"))


def test_role_settings_hold_whole_tokens() -> None:
    with pytest.raises(ValueError, match="784"):
        RoleSettings(1.0, 8, 783, 1000)


def test_a_window_that_hardly_moves_on_is_the_askers_error(mind: VideoMind, short_video: Path) -> None:
    with mind.open(short_video) as watched, pytest.raises(QuestionError, match="at least 50 s"):
        watched.ask("When?", window=30)
