import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.training.tiny.muon import Muon, orthogonal

shapes = st.tuples(st.integers(2, 40), st.integers(2, 40))


@given(shapes, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_all_directions_come_to_count_about_the_same(shape: tuple[int, int], seed: int) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    well_posed = matrix + 2 * torch.eye(*shape)

    before, after = (torch.linalg.svdvals(m) for m in (well_posed, orthogonal(well_posed)))

    assert after.max() < 1.3
    assert after.max() / after.min() <= before.max() / before.min() * 1.3


def test_it_finds_the_least_of_a_quadratic() -> None:
    torch.manual_seed(0)
    wanted, weight = torch.randn(8, 12), torch.nn.Parameter(torch.zeros(8, 12))
    muon = Muon([weight], lr=0.1, weight_decay=0.0)
    for step in range(300):
        muon.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        muon.zero_grad()
        ((weight - wanted) ** 2).sum().backward()
        muon.step()

    assert (weight - wanted).abs().max() < 0.05
