from pathlib import Path

import pytest

from vm import VideoMind
from vm import bundled as module
from vm.bundled import BUNDLED_NOTICE, choose_checkpoint
from vm.errors import CheckpointError, CheckpointNotFound


def test_a_named_checkpoint_is_used_and_nothing_is_told() -> None:
    told: list[str] = []
    assert choose_checkpoint("here", None, told.append) == Path("here")
    assert choose_checkpoint(Path("here"), "there", told.append) == Path("here")
    assert told == []


def test_the_bundled_one_stands_in_and_is_told_of(bundled: Path) -> None:
    told: list[str] = []
    assert choose_checkpoint(None, None, told.append) == bundled
    assert told == [BUNDLED_NOTICE]
    assert "videomind pull" in BUNDLED_NOTICE


def test_the_library_loads_it_where_none_is_named(bundled: Path, mind: VideoMind) -> None:
    assert VideoMind.load(device="cpu").fingerprint == mind.fingerprint


def test_a_base_without_its_checkpoint_is_refused(bundled: Path) -> None:
    with pytest.raises(CheckpointError, match="there is given as the base"):
        VideoMind.load(base="there")


@pytest.mark.parametrize("part", module._PARTS)
def test_whatever_part_is_missing_the_error_names_it_and_the_ways_out(bundled: Path, part: str) -> None:
    (bundled / part).unlink()
    with pytest.raises(CheckpointNotFound) as caught:
        choose_checkpoint(None, None)
    for words in (str(bundled / part), "install", "--checkpoint", "VIDEOMIND_CHECKPOINT", "videomind pull"):
        assert words in str(caught.value)
