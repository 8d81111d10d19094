from copy import deepcopy
from typing import Any

import pytest
import torch
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from vm.model.vision import encode, fingerprint


@pytest.fixture(scope="module")
def tower() -> Any:
    torch.manual_seed(0)
    vision = {"depth": 2, "embed_dim": 48, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 3}
    config = Qwen2VLConfig(vision_config=vision).vision_config
    config._attn_implementation = "sdpa"
    tower = Qwen2VisionTransformerPretrainedModel(config).eval().requires_grad_(False)
    for weights in tower.parameters():
        if weights.ndim > 1:
            weights.normal_(std=0.14)  # as initialised they are too small for positions to matter
    return tower


def random_patches(frames: int, rows: int, columns: int) -> torch.Tensor:
    return torch.randn(frames, rows * columns, 1176, generator=torch.Generator().manual_seed(frames + rows))


def reference(tower: Any, patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    grid = torch.tensor([[len(patches), rows, columns]])
    return tower(patches.flatten(0, 1), grid_thw=grid).pooler_output


@torch.inference_mode()
@pytest.mark.parametrize(
    ("frames", "rows", "columns"),
    [(1, 2, 2), (1, 2, 8), (3, 10, 4), (2, 4, 14), (5, 12, 20), (9, 32, 32)],
)
def test_features_are_those_of_transformers_own_tower(
    tower: Any, frames: int, rows: int, columns: int
) -> None:
    patches = random_patches(frames, rows, columns)
    features = encode(tower, patches, rows, columns)
    assert features.shape == (frames, rows * columns // 4, 32)
    torch.testing.assert_close(
        features.flatten(0, 1), reference(tower, patches, rows, columns), atol=1e-5, rtol=1e-5
    )


@torch.inference_mode()
def test_a_frames_features_do_not_depend_on_its_neighbours(tower: Any) -> None:
    patches = random_patches(4, 6, 4)
    together = encode(tower, patches, 6, 4)
    alone = torch.cat([encode(tower, frame[None], 6, 4) for frame in patches])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


@torch.inference_mode()
def test_rows_and_columns_are_not_mixed_up(tower: Any) -> None:
    patches = random_patches(1, 4, 6)
    wide, tall = (encode(tower, patches, *grid) for grid in ((4, 6), (6, 4)))
    assert (wide - tall).abs().max() > 0.1


def test_a_fingerprint_tells_apart_whatever_gives_other_features(tower: Any) -> None:
    same, other_weight, other_settings, other_dtype = (deepcopy(tower) for _ in range(4))
    other_weight.merger.mlp[2].weight[0, 0] += 1e-3
    other_settings.config.num_heads = 6
    other_dtype.half()
    assert fingerprint(same) == fingerprint(tower)
    assert len({fingerprint(each) for each in (tower, other_weight, other_settings, other_dtype)}) == 4
