import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vm.model.key_values import KeyValues, packed_attention

DIM = 4
SCALE = 0.5


def states(heads: int, count: int, seed: int) -> Tensor:
    return torch.randn(1, heads, count, DIM, generator=torch.Generator().manual_seed(seed))


def plain_attention(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(heads, n, dim) of the last n tokens over all, one token and one head at a time."""
    heads, count = query.shape[1:3]
    total, groups = keys.shape[2], heads // keys.shape[1]
    mixed = torch.empty(heads, count, DIM)
    for head in range(heads):
        for place in range(count):
            seen = total - count + place + 1
            key, value = (part[0, head // groups, :seen] for part in (keys, values))
            weights = (key @ query[0, head, place] * SCALE).softmax(0)
            mixed[head, place] = weights @ value
    return mixed


def attend(query: Tensor, key: Tensor, value: Tensor, sequences: list[tuple[KeyValues, int]]) -> Tensor:
    packed = (part[0].transpose(0, 1) for part in (query, key, value))
    return packed_attention(0, *packed, SCALE, sequences)[None]


# For each sequence: how many tokens it has seen, how many are new, and its buffers' capacity.
lengths = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(1, 12)), min_size=1, max_size=4
)


@settings(max_examples=50, deadline=None)
@given(lengths, st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_packed_sequences_attend_as_if_each_were_alone(
    given: list[tuple[int, int, int]], key_heads: int, groups: int, seed: int
) -> None:
    heads = key_heads * groups
    queries, keys, values, pasts, expected = [], [], [], [], []
    for number, (seen, new, capacity) in enumerate(given):
        all_keys, all_values = (states(key_heads, seen + new, seed + 10 * number + i) for i in (0, 1))
        past = KeyValues(capacity)
        past.append(0, all_keys[:, :, :seen], all_values[:, :, :seen])
        past.advance(seen)
        query = states(heads, new, seed + 10 * number + 2)
        queries.append(query)
        keys.append(all_keys[:, :, seen:])
        values.append(all_values[:, :, seen:])
        pasts.append((past, new))
        expected.append(plain_attention(query, all_keys, all_values))
    mixed = attend(*(torch.cat(part, dim=2) for part in (queries, keys, values)), pasts)
    torch.testing.assert_close(mixed[0].transpose(0, 1), torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 10))
def test_growing_past_the_capacity_loses_nothing(steps: list[int], capacity: int) -> None:
    keys, values = states(2, sum(steps), 0), states(2, sum(steps), 1)
    past = KeyValues(capacity)
    for step in steps:
        end = past.length + step
        for layer in range(2):
            seen = past.append(layer, keys[:, :, past.length : end], values[:, :, past.length : end])
        past.advance(step)
    assert past.length == sum(steps)
    assert torch.equal(seen[0], keys)
    assert torch.equal(seen[1], values)


@given(st.integers(0, 6), st.integers(1, 4))
def test_after_truncating_the_prefix_stands_and_the_rest_is_written_anew(kept: int, new: int) -> None:
    past = KeyValues(4)
    first, second = states(1, 6, 0), states(1, new, 1)
    past.append(0, first, first)
    past.advance(6)
    past.truncate(kept)
    assert past.length == kept
    keys, _ = past.append(0, second, second)
    assert torch.equal(keys, torch.cat((first[:, :, :kept], second), dim=2))


def test_truncating_to_more_than_there_is_changes_nothing() -> None:
    past = KeyValues(8)
    past.append(0, states(1, 3, 0), states(1, 3, 1))
    past.advance(3)
    past.truncate(5)
    assert past.length == 3


def test_appending_within_the_capacity_moves_no_buffer() -> None:
    past = KeyValues(8)
    places = set()
    for seed in range(8):
        keys, _ = past.append(0, states(1, 1, seed), states(1, 1, seed))
        past.advance(1)
        places.add(keys.data_ptr())
    assert len(places) == 1


def test_bytes_are_those_of_the_buffers_and_grow_with_them() -> None:
    past = KeyValues(8)
    assert past.nbytes == 0
    past.append(0, states(2, 3, 0), states(2, 3, 1))
    assert past.nbytes == 2 * (2 * 8 * DIM * 4)
    past.advance(3)
    past.append(0, states(2, 9, 0), states(2, 9, 1))
    assert past.nbytes == 2 * (2 * 12 * DIM * 4)


def test_a_read_that_broke_off_between_layers_is_written_over() -> None:
    """The length moves on only once every layer has written."""
    past = KeyValues(8)
    past.append(0, states(1, 3, 0), states(1, 3, 1))
    again = states(1, 2, 2)
    for layer in range(2):
        keys, _ = past.append(layer, again, again)
        assert torch.equal(keys, again)


@pytest.mark.parametrize("count", [1, 3])
def test_a_sequence_sees_nothing_of_its_neighbours(count: int) -> None:
    query, keys, values = states(2, 2 * count, 0), states(1, 2 * count, 1), states(1, 2 * count, 2)
    before = attend(query, keys, values, [(KeyValues(4), count), (KeyValues(4), count)])
    keys[:, :, count:], values[:, :, count:] = 9, 9
    after = attend(query, keys, values, [(KeyValues(4), count), (KeyValues(4), count)])
    assert torch.equal(before[:, :count], after[:, :count])
    assert not torch.equal(before[:, count:], after[:, count:])
