from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from vm.video.resampling import resize

SIZES = [
    ((270, 480), (168, 280)),
    ((120, 160), (280, 392)),
    ((720, 1280), (280, 476)),
    ((31, 47), (28, 56)),
    ((28, 28), (28, 28)),
    ((3, 1000), (28, 56)),
]


@pytest.mark.parametrize(("given", "wanted"), SIZES)
def test_equals_float_interpolation_but_for_rounding(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (*given, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    reference = interpolate(image.permute(2, 0, 1)[None].float(), wanted, mode="bicubic", antialias=True)
    expected = reference[0].clamp(0, 255).round()
    difference = (resize(image, wanted).float() - expected).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 2e-4


def test_a_flat_image_stays_flat_to_its_edges() -> None:
    image = torch.full((33, 70, 3), 201, dtype=torch.uint8)
    assert (resize(image, (56, 28)) == 201).all()
