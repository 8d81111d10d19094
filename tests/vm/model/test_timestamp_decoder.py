import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vm.model.timestamp_decoder import (
    STRIDES,
    PyramidOutput,
    TimestampDecoder,
    best_spans,
    sinusoidal_positions,
)

HIDDEN, DIMS = 24, 16


@pytest.fixture(scope="module")
def decoder() -> TimestampDecoder:
    torch.manual_seed(0)
    made = TimestampDecoder(HIDDEN, DIMS).eval()
    with torch.no_grad():
        # What starts as nothing or as one is given its own value, so that leaving it out shows.
        for weights in (made.vis_emb.weights, made.reg_emb.weights):
            weights.normal_()
        made.coef.scale.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    return made


def states(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed))


def levels(frames: int) -> list[tuple[int, int]]:
    """(stride, points) of each level a video of so many frames has."""
    return [(stride, frames // stride) for stride in STRIDES if frames >= stride]


@torch.no_grad()
def test_each_level_has_a_point_per_whole_stride(decoder: TimestampDecoder) -> None:
    for frames in range(2, 201):
        output = decoder(states(frames), states(2, seed=1))
        expected = [(place * stride, stride) for stride, count in levels(frames) for place in range(count)]
        assert list(zip(output.points.tolist(), output.strides.tolist(), strict=True)) == expected
        assert output.logits.shape == (2, len(expected))
        assert output.offsets.shape == (2, len(expected), 2)
        assert output.frames.shape == (2, frames, DIMS)
        assert output.query.shape == (2, 1, DIMS)


@torch.no_grad()
def test_a_level_points_to_its_own_frames_only(decoder: TimestampDecoder) -> None:
    """At stride 8 each point sees eight frames and its two neighbours, nothing before or after."""
    frames = torch.randn(1, 64, DIMS)
    changed = frames.clone()
    changed[:, 24:32] = 0
    before, after = (decoder.pyramid(each)[3] for each in (frames, changed))
    assert (before != after).any(-1)[0].nonzero().flatten().tolist() == [3]


@torch.no_grad()
def test_offsets_are_never_negative_and_grow_with_the_levels_scale(decoder: TimestampDecoder) -> None:
    offsets = decoder(states(16), states(1, seed=1)).offsets
    pyramid = decoder.pyramid(_fused(decoder, 16))
    raw = torch.cat([decoder.coord_head(level).exp() for level in pyramid], dim=1)
    scale = torch.cat([torch.full((count,), i + 1.0) for i, (_, count) in enumerate(levels(16))])
    assert (offsets > 0).all()
    torch.testing.assert_close(offsets, raw * scale[:, None])


def _fused(decoder: TimestampDecoder, frames: int) -> Tensor:
    return decoder(states(frames), states(1, seed=1)).frames


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 7, 75])
def test_queries_together_give_what_each_gives_alone(decoder: TimestampDecoder, frames: int) -> None:
    queries = states(3, seed=1)
    together = decoder(states(frames), queries)
    for number, query in enumerate(queries):
        alone = decoder(states(frames), query[None])
        torch.testing.assert_close(together.logits[number], alone.logits[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(together.offsets[number], alone.offsets[0], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(together.frames[number], alone.frames[0], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_the_query_and_the_order_of_frames_matter(decoder: TimestampDecoder) -> None:
    logits = decoder(states(9), states(1, seed=1)).logits
    assert not torch.allclose(logits, decoder(states(9), states(1, seed=2)).logits, atol=1e-4)
    rolled = decoder(states(9).roll(1, 0), states(1, seed=1)).frames.roll(-1, 1)
    assert not torch.allclose(rolled, decoder(states(9), states(1, seed=1)).frames, atol=1e-4)


def test_gradients_reach_every_weight_and_both_inputs(decoder: TimestampDecoder) -> None:
    frames, query = states(16).requires_grad_(), states(2, seed=1).requires_grad_()
    output = decoder(frames, query)
    (output.logits.sum() + output.normalized_spans().square().sum() + output.query.sum()).backward()
    assert [name for name, weights in decoder.named_parameters() if weights.grad is None] == []
    assert frames.grad is not None
    assert query.grad is not None
    assert (frames.grad.abs().sum(1) > 0).all()
    assert (query.grad.abs().sum(1) > 0).all()
    decoder.zero_grad()


@pytest.mark.parametrize(("count", "dims"), [(1, 4), (2, 4), (7, 6), (150, 256)])
def test_positions_are_sines_and_cosines_of_one_turn(count: int, dims: int) -> None:
    expected = [
        [
            (math.cos if channel % 2 else math.sin)(
                place / (count + 1e-6) * 2 * math.pi / 10000 ** (channel // 2 * 2 / dims)
            )
            for channel in range(dims)
        ]
        for place in range(1, count + 1)
    ]
    found = sinusoidal_positions(count, torch.empty(1, dims))
    torch.testing.assert_close(found, torch.tensor(expected), atol=2e-6, rtol=1e-5)


def test_positions_come_in_the_dtype_of_what_they_are_added_to() -> None:
    assert sinusoidal_positions(3, torch.empty(1, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def output_of(spans: list[tuple[float, float]], confidences: list[float], frames: int = 1) -> PyramidOutput:
    """An output with one point, at frame 0 and stride 1, per span."""
    ends = torch.tensor(spans).view(-1, 2) * frames
    return PyramidOutput(
        points=torch.zeros(len(spans)),
        strides=torch.ones(len(spans)),
        logits=torch.tensor(confidences).view(1, -1).logit(),
        offsets=torch.stack((-ends[:, 0], ends[:, 1]), dim=1)[None],
        frames=torch.zeros(1, frames, DIMS),
        query=torch.zeros(1, 1, DIMS),
    )


def test_a_span_reaches_its_offsets_in_strides_around_its_point_as_a_fraction_of_the_frames() -> None:
    output = PyramidOutput(
        points=torch.tensor([3.0, 8.0]),
        strides=torch.tensor([1.0, 4.0]),
        logits=torch.zeros(1, 2),
        offsets=torch.tensor([[[1.0, 2.0], [0.5, 3.0]]]),
        frames=torch.zeros(1, 10, DIMS),
        query=torch.zeros(1, 1, DIMS),
    )
    torch.testing.assert_close(output.normalized_spans(), torch.tensor([[[0.2, 0.5], [0.6, 2.0]]]))


Row = tuple[tuple[float, float], float]


def plain_iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    union = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return shared / union if union else 0.0


def plain_suppression(rows: list[Row], threshold: float, limit: int) -> list[Row]:
    """The published procedure, one row at a time over the whole list."""
    rows = sorted(rows, key=lambda row: -row[1])
    for place in range(len(rows)):
        best = max(range(place, len(rows)), key=lambda n: rows[n][1])
        rows[place], rows[best] = rows[best], rows[place]
        for other in range(place + 1, len(rows)):
            if plain_iou(rows[place][0], rows[other][0]) >= threshold:
                rows[other] = (rows[other][0], 0.0)
    return rows[:limit]


# Eighths are exact in float32, so that both sides see the same IoU; few confidences make many ties.
eighths = st.integers(-4, 12).map(lambda n: n / 8)
proposals = st.lists(
    st.tuples(st.tuples(eighths, eighths), st.sampled_from([0.125, 0.25, 0.5, 0.75])), min_size=1, max_size=20
)


@settings(max_examples=200, deadline=None)
@given(proposals, st.sampled_from([0.3, 0.55, 0.75]), st.integers(1, 20))
def test_best_spans_are_those_of_the_published_suppression(
    given: list[Row], threshold: float, limit: int
) -> None:
    output = output_of([span for span, _ in given], [confidence for _, confidence in given])
    spans, confidences = best_spans(output, threshold, limit)
    expected = plain_suppression(given, threshold, limit)
    assert [tuple(span) for span in spans.tolist()] == [span for span, _ in expected]
    torch.testing.assert_close(confidences, torch.tensor([confidence for _, confidence in expected]))


def test_what_overlaps_a_better_span_comes_last_with_no_confidence() -> None:
    output = output_of([(0, 1), (0, 0.9), (0.5, 0.6)], [0.75, 0.5, 0.25])
    spans, confidences = best_spans(output, 0.75)
    torch.testing.assert_close(spans, torch.tensor([(0, 1), (0.5, 0.6), (0, 0.9)]))
    torch.testing.assert_close(confidences, torch.tensor([0.75, 0.25, 0.0]))


def test_spans_and_scores_that_are_no_numbers_are_left_out() -> None:
    output = output_of([(0, math.inf), (math.nan, 1), (0.25, 0.5), (0, 1)], [0.75, 0.75, 0.5, math.nan])
    spans, confidences = best_spans(output, 0.75)
    assert spans.tolist() == [[0.25, 0.5]]
    assert confidences.tolist() == [0.5]
