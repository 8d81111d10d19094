import torch
from hypothesis import given
from hypothesis import strategies as st

from vm.model.positions import rotary_positions

TEXT, START, VIDEO, END, MARK = 1, 7, 8, 9, 5


def positions(ids: list[int], grid: tuple[int, int, int]) -> list[list[int]]:
    return rotary_positions(ids, grid, START, VIDEO).tolist()


def test_text_before_a_video_counts_up_and_the_video_is_laid_out_in_three_axes() -> None:
    ids = [TEXT, START, *[VIDEO] * 8, END]
    assert positions(ids, (2, 2, 2)) == [
        [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4],
        [0, 1, 2, 2, 3, 3, 2, 2, 3, 3, 4],
        [0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 4],
    ]


def test_text_goes_on_from_the_largest_axis_even_if_that_is_time() -> None:
    ids = [START, *[VIDEO] * 5, END, TEXT]
    time, height, width = positions(ids, (5, 1, 1))
    assert time == [0, 1, 2, 3, 4, 5, 6, 7]
    assert height == width == [0, 1, 1, 1, 1, 1, 6, 7]


def test_thirty_temporal_patches_push_the_text_behind_them_past_thirty() -> None:
    ids = [TEXT, TEXT, START, *[VIDEO] * (30 * 8 * 28 // 4), END]
    assert [axis[-1] for axis in positions(ids, (30, 4, 14))] == [33, 33, 33]


def test_markers_take_places_of_the_video_and_push_its_last_tokens_into_the_text() -> None:
    ids = [START, VIDEO, MARK, VIDEO, MARK, VIDEO, VIDEO, END]
    assert positions(ids, (2, 1, 2)) == [
        [0, 1, 1, 2, 2, 3, 4, 5],
        [0, 1, 1, 1, 1, 3, 4, 5],
        [0, 1, 2, 1, 2, 3, 4, 5],
    ]


def test_a_marker_right_behind_the_start_hides_the_video() -> None:
    ids = [TEXT, START, MARK, VIDEO, VIDEO, MARK, VIDEO, VIDEO, END]
    assert positions(ids, (2, 1, 2)) == [list(range(len(ids)))] * 3


grids = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))


@given(st.integers(0, 5), grids, st.integers(1, 5))
def test_positions_are_where_a_loop_over_the_tokens_puts_them(
    before: int, grid: tuple[int, int, int], after: int
) -> None:
    frames, rows, columns = grid
    ids = [*[TEXT] * before, START, *[VIDEO] * (frames * rows * columns), *[TEXT] * after]
    expected = [(i, i, i) for i in range(before + 1)]
    first = before + 1
    for frame in range(frames):
        for row in range(rows):
            for column in range(columns):
                expected.append((first + frame, first + row, first + column))
    behind = max(max(place) for place in expected) + 1
    expected += [(behind + i,) * 3 for i in range(after)]
    assert list(zip(*positions(ids, grid), strict=True)) == expected


@given(grids)
def test_positions_of_a_prompt_are_whole_numbers_on_three_axes(grid: tuple[int, int, int]) -> None:
    ids = [START, *[VIDEO] * (grid[0] * grid[1] * grid[2]), END]
    found = rotary_positions(ids, grid, START, VIDEO)
    assert found.shape == (3, len(ids))
    assert found.dtype == torch.int64
