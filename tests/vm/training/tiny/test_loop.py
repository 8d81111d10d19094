import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vm.training.tiny.loop import Optimizer, Schedule, train


class _Line(nn.Module):
    """Something to fit, with a matrix and a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)


def _run(folder: Path, steps: int, of: int, schedule: Schedule | None = None) -> _Line:
    """Train up to step `steps` of a schedule that is `of` long."""
    model = _Line()
    schedule = schedule or Schedule(of, matrix_rate=0.05, other_rate=0.05, warm_up=2)
    optimizer = Optimizer(model, schedule, plain=())

    def batches(first: int) -> Iterator[Tensor]:
        for step in range(first, steps):
            yield torch.randn(5, 4, generator=torch.Generator().manual_seed(step))

    def loss_of(batch: object) -> dict[str, Tensor]:
        assert isinstance(batch, Tensor)
        return {"fit": (model.inner(batch) - batch[:, :3]).square().mean()}

    with suppress(StopIteration):  # killed there
        train(model, optimizer, schedule, batches, loss_of, folder)
    return model


def test_it_learns(tmp_path: Path) -> None:
    _run(tmp_path, 300, 300)

    losses = [json.loads(line)["fit"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] / 4


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", 230, 230)
    _run(tmp_path / "cut", 215, 230)  # saved at step 200
    assert torch.load(tmp_path / "cut" / "state.pt", weights_only=True)["step"] == 200
    again = _run(tmp_path / "cut", 230, 230)

    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    first = _run(tmp_path, 20, 20)
    log = (tmp_path / "log.jsonl").read_text()
    again = _run(tmp_path, 20, 20)

    assert torch.equal(first.inner.weight, again.inner.weight)
    assert (tmp_path / "log.jsonl").read_text() == log


def test_a_line_of_the_log_says_how_far_it_is_and_how_fast(tmp_path: Path) -> None:
    _run(tmp_path, 40, 40)

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40]
    assert lines[0].keys() == {"step", "seconds_per_step", "minutes_left", "fit", "norm"}
    assert lines[-1]["minutes_left"] == 0


@pytest.mark.parametrize("falling", [0.3, 1.0])
def test_the_rate_rises_stays_and_falls(falling: float) -> None:
    schedule = Schedule(1000, warm_up=100, final=0.1, falling=falling)
    factors = [schedule.factor(step) for step in range(1001)]

    assert factors[0] == pytest.approx(0.01)
    assert factors[99] == 1.0
    assert all(factor == 1.0 for factor in factors[100 : schedule.falls_from])
    fall = factors[max(100, schedule.falls_from) :]
    assert fall == sorted(fall, reverse=True)
    assert factors[1000] == pytest.approx(0.1)


def test_a_longer_run_can_go_on_from_where_the_rate_began_to_fall(tmp_path: Path) -> None:
    _run(tmp_path, 40, 40, Schedule(40, warm_up=2, falling=0.5))

    assert torch.load(tmp_path / "steady.pt", weights_only=True)["step"] == 20
