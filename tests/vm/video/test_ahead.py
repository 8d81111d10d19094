"""Prefetched frames are handed out as if they had been read just now, and never too many are kept."""

from __future__ import annotations

import pytest
import torch

from vm.errors import VideoError
from vm.video import VideoReader
from vm.video.ahead import ReadAhead

SIZE = (32, 48)
FRAME_BYTES = 3 * 32 * 48


class Counting(VideoReader):
    """Notes which frames were decoded."""

    def read(self, indices, size):
        self.decoded.append(list(indices))
        return super().read(indices, size)


@pytest.fixture
def reader(footage):
    with Counting(footage.write("clip.mp4")) as opened:
        opened.decoded = []
        yield opened


def assert_read(ahead, reader, indices):
    frames, truth = ahead.read(indices, SIZE), VideoReader.read(reader, indices, SIZE)
    assert torch.equal(frames.pixels, truth.pixels)
    assert frames.timestamps == truth.timestamps


def test_only_what_was_not_prefetched_is_decoded(reader):
    ahead = ReadAhead(reader, 100 * FRAME_BYTES)
    ahead.prefetch([10, 20, 30, 20], SIZE)
    assert_read(ahead, reader, [20, 10, 20])
    assert_read(ahead, reader, [30, 40, 10, 41, 40])
    ahead.prefetch([30, 50], SIZE)
    assert [decoded for decoded in reader.decoded if decoded] == [[10, 20, 30], [40, 41], [50]]


def test_another_size_is_another_frame(reader):
    ahead = ReadAhead(reader, 100 * FRAME_BYTES)
    ahead.prefetch([10], (16, 16))
    assert_read(ahead, reader, [10])
    assert reader.decoded == [[10], [10]]


def test_as_many_of_the_first_as_there_is_room_for(reader):
    ahead = ReadAhead(reader, 3 * FRAME_BYTES)
    ahead.prefetch(range(0, 100, 10), SIZE)
    assert_read(ahead, reader, [0, 10, 20, 30])
    assert reader.decoded == [[0, 10, 20], [30]]


def test_the_oldest_go_first(reader):
    ahead = ReadAhead(reader, 3 * FRAME_BYTES)
    ahead.prefetch([1, 2], SIZE)
    ahead.prefetch([3, 4], SIZE)
    assert_read(ahead, reader, [2, 3, 4])
    assert_read(ahead, reader, [1])
    assert [decoded for decoded in reader.decoded if decoded] == [[1, 2], [3, 4], [1]]


@pytest.fixture
def path(footage):
    """Nothing of the second half decodes."""
    path = footage.write("clip.mp4", grain=40, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    return path


def test_damage_is_told_by_the_read_and_not_by_the_prefetch(path):
    with Counting(path) as reader, VideoReader(path) as plain:
        reader.decoded = []
        ahead = ReadAhead(reader, 100 * FRAME_BYTES)
        ahead.prefetch([0, 10, 70, 90], SIZE)
        assert reader.warnings == plain.warnings == []
        frames, truth = ahead.read([0, 10, 70, 90], SIZE), plain.read([0, 10, 70, 90], SIZE)
        assert frames.timestamps == truth.timestamps
        assert reader.warnings == plain.warnings != []
        assert reader.decoded == 2 * [[0, 10, 70, 90]]


def test_what_stands_in_for_a_missing_frame_is_the_same_with_a_prefetch(path):
    with Counting(path) as reader, VideoReader(path) as plain:
        reader.decoded = []
        ahead = ReadAhead(reader, 100 * FRAME_BYTES)
        ahead.prefetch([0, 10], SIZE)
        frames, truth = ahead.read([10, 90, 95], SIZE), plain.read([10, 90, 95], SIZE)
        assert torch.equal(frames.pixels, truth.pixels)
        assert frames.timestamps == truth.timestamps
        assert reader.warnings == plain.warnings
        assert reader.decoded == [[0, 10], [90, 95], [10, 90, 95]]


def test_a_prefetch_that_fails_says_nothing(path):
    with VideoReader(path) as reader:
        ahead = ReadAhead(reader, 100 * FRAME_BYTES)
        ahead.prefetch([95], SIZE)
        with pytest.raises(VideoError):
            ahead.read([95], SIZE)
