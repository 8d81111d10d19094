import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vm.model.timestamp_decoder import PyramidOutput, TimestampDecoder
from vm.training.losses import at_least_a_frame, draw_anchor, grounding_losses

METRICS = Path(__file__).parents[2] / "parity" / "metrics"
EXPECTED = json.loads((METRICS / "losses.json").read_text())


@pytest.mark.parametrize("case", range(len(EXPECTED)))
def test_the_losses_are_the_published_ones(case: int) -> None:
    tensors = load_file(METRICS / "losses.safetensors")
    given = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith(f"{case}.")}
    output = PyramidOutput(
        points=given["points"][:, 0],
        strides=given["points"][:, 3],
        logits=given["out_class"][..., 0],
        offsets=given["out_coord"],
        frames=given["video_emb"],
        query=given["query_emb"],
    )
    found = grounding_losses(output, list(given["boundary"]), given["pos_clip"][:, 0])
    parts = {"loss_reg": found.boundary, "loss_cls": found.classification, "loss_sal": found.contrastive}
    for name, value in parts.items():
        assert value.shape == (1,)
        assert value.item() == pytest.approx(EXPECTED[case][name], abs=1e-5), name


@pytest.mark.parametrize("frames", [2, 5, 8, 37])
def test_queries_together_lose_what_each_loses_alone(frames: int) -> None:
    torch.manual_seed(0)
    decoder = TimestampDecoder(12, 16)
    states, queries = torch.randn(frames, 12), torch.randn(3, 12)
    spans = [torch.tensor([[0.1, 0.7]]), torch.tensor([[0.0, 1.0], [0.5, 0.6]]), torch.tensor([[0.9, 1.0]])]
    spans = [at_least_a_frame(own, frames) for own in spans]
    anchors = torch.stack([draw_anchor(own, frames) for own in spans])
    undropped(decoder)
    together = grounding_losses(decoder(states, queries), spans, anchors).total
    for number in range(3):
        output = decoder(states, queries[number, None])
        alone = grounding_losses(output, spans[number : number + 1], anchors[number, None]).total
        torch.testing.assert_close(together[number], alone[0], atol=1e-5, rtol=1e-5)


def undropped(decoder: TimestampDecoder) -> None:
    """Deep supervision and padding as in training, and no chance in it."""
    decoder.train()
    for layer in decoder.vis_fuse:
        layer.eval()


@pytest.mark.parametrize("frames", [2, 5, 8, 37])
def test_every_fusion_layer_is_taught(frames: int) -> None:
    decoder = TimestampDecoder(12, 16)
    undropped(decoder)
    output = decoder(torch.randn(frames, 12), torch.randn(2, 12))
    assert len(output.logits) == 2 * len(decoder.vis_fuse)
    assert output.frames.shape[1] == frames
    assert output.within.sum() == (output.points < frames).sum()
    spans = [torch.tensor([[0.0, 1.0]])] * 2
    grounding_losses(output, spans, torch.zeros(2, dtype=torch.long)).total.sum().backward()
    assert [name for name, weights in decoder.named_parameters() if weights.grad is None] == []


def test_a_video_without_a_fitting_point_has_no_boundary_loss() -> None:
    """A moment so short that no point lies in it teaches where it is not, and nothing of its ends."""
    decoder = TimestampDecoder(12, 16)
    output = decoder(torch.randn(16, 12), torch.randn(1, 12))
    between = torch.tensor([[0.4 / 16, 0.6 / 16]])
    losses = grounding_losses(output, [between], torch.zeros(1, dtype=torch.long))
    assert losses.boundary.item() == 0
    assert losses.total.isfinite().all()


@pytest.mark.parametrize(
    ("span", "grown"),
    [
        ((0.5, 0.5), (0.45, 0.55)),
        ((0.0, 0.01), (0.0, 0.1)),
        ((1.0, 1.0), (0.9, 1.0)),
        ((0.2, 0.4), (0.2, 0.4)),
    ],
)
def test_short_spans_grow_to_a_frame_inside_the_video(
    span: tuple[float, float], grown: tuple[float, float]
) -> None:
    torch.testing.assert_close(at_least_a_frame(torch.tensor([span]), 10), torch.tensor([grown]))


def test_anchors_lie_in_the_spans_and_all_over_them() -> None:
    spans = torch.tensor([[0.0, 0.2], [0.75, 1.0]])
    drawn = {int(draw_anchor(spans, 20)) for _ in range(500)}
    assert drawn == {0, 1, 2, 3, *range(15, 20)}


@pytest.mark.parametrize("frames", range(1, 40))
def test_every_span_of_a_frame_or_more_has_an_anchor(frames: int) -> None:
    ends = torch.rand(200, 2).sort(dim=1).values
    whole = torch.arange(frames)[:, None].expand(-1, 2) / frames
    for span in at_least_a_frame(torch.cat((ends, whole)), frames):
        drawn = int(draw_anchor(span[None], frames))
        assert 0 <= drawn < frames
        assert drawn + 1 > span[0] * frames - 1e-3
        assert drawn < span[1] * frames
