from itertools import islice
from pathlib import Path

import pytest
import torch

from vm.training.tiny.bank import ASIDE, Bank, endless, training_clip, views
from vm.training.tiny.sizes import HIDDEN
from vm.training.tiny.vision import Watcher


@pytest.fixture(scope="module")
def tower() -> torch.nn.Module:
    torch.manual_seed(0)
    return Watcher().tower.requires_grad_(False)


def _empty(folder: Path, numbers: list[int]) -> Bank:
    for number in numbers:
        (folder / f"{number:06d}.safetensors").touch()
    return Bank(folder)


def test_a_clip_is_drawn_and_encoded_once(tower: torch.nn.Module, tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    bank.fill(tower, [3])
    written = bank.path(3).stat().st_mtime_ns
    bank.fill(tower, [3])

    assert bank.path(3).stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["000003.safetensors"]
    footprint = bank.load(3)
    frames, rows, columns = footprint.token_grid(footprint.ground)
    assert footprint.ground.shape == (frames, rows * columns, HIDDEN)
    assert frames == len(views(footprint.clip)["ground"]) // 2
    assert footprint.ground.isfinite().all()


def test_most_clips_to_learn_from_are_short_and_none_is_held_out() -> None:
    some = [training_clip(number) for number in range(200)]

    assert 0.6 < sum(clip.duration <= 45 for clip in some) / 200 < 0.9
    assert all(10 <= clip.duration <= 150.1 and clip.composition is False for clip in some)


def test_a_view_that_is_another_one_is_not_made_again() -> None:
    short = next(clip for clip in map(training_clip, range(100)) if clip.duration < 20)
    long = next(clip for clip in map(training_clip, range(100)) if clip.duration > 100)

    assert list(views(short)) == ["ground"]
    assert list(views(long)) == ["ground", "dense", "whole"]


def test_clips_set_aside_are_not_learnt_from(tmp_path: Path) -> None:
    bank = _empty(tmp_path, [0, 2, ASIDE, ASIDE + 1])

    assert bank.numbers() == [0, 2]
    assert bank.aside() == [ASIDE, ASIDE + 1]


def test_processes_share_out_all_clips_and_get_lengths_alike(tmp_path: Path) -> None:
    bank = _empty(tmp_path, [*range(400)])
    dealt = [list(islice(endless(bank, "seed", rank, 2), 200)) for rank in range(2)]

    assert sorted(dealt[0] + dealt[1]) == [*range(400)]
    apart = [abs(training_clip(a).duration - training_clip(b).duration) for a, b in zip(*dealt, strict=True)]
    assert sum(apart) / len(apart) < 3  # seconds
    assert dealt[0] != sorted(dealt[0], key=lambda number: training_clip(number).duration)


def test_each_round_has_another_order(tmp_path: Path) -> None:
    bank = _empty(tmp_path, [*range(50)])
    numbers = list(islice(endless(bank, "seed", 0, 1), 100))

    assert sorted(numbers[:50]) == sorted(numbers[50:]) == [*range(50)]
    assert numbers[:50] != numbers[50:]
