"""When a recording began: from real containers, and from what cameras and editors write into them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import av
import pytest

from vm.video import open_isolated, open_video
from vm.video.recording import recorded_at

NOON = datetime(2024, 5, 17, 12, 0, 0, tzinfo=UTC)
APPLE = "com.apple.quicktime.creationdate"


def tagged(footage, name: str, tags: dict[str, str]):
    """A copy of a video with other metadata."""
    path = footage.folder / name
    with (
        av.open(str(footage.write(f"plain-{name}"))) as plain,
        av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if tags.get(APPLE) else {}) as out,
    ):
        stream = out.add_stream_from_template(plain.streams.video[0])
        out.metadata.update(tags)
        for packet in plain.demux(plain.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "tags", "told"),
    [
        ("untold.mp4", {}, None),
        ("camera.mp4", {"creation_time": "2024-05-17T12:00:00.000000Z"}, NOON),
        ("camera.mkv", {"creation_time": "2024-05-17T12:00:00.000000Z"}, NOON),
        (
            "phone.mov",
            {APPLE: "2024-05-17T14:00:00+0200", "creation_time": "2024-05-17T16:30:00Z"},
            datetime(2024, 5, 17, 14, tzinfo=timezone(timedelta(hours=2))),
        ),
    ],
)
def test_the_start_is_read_from_a_real_container(footage, name, tags, told):
    with open_video(tagged(footage, name, tags)) as video:
        assert video.recorded_at == told
        assert told is None or video.recorded_at.utcoffset() == told.utcoffset()


def test_a_process_of_its_own_tells_it_too(footage):
    path = tagged(footage, "phone.mov", {APPLE: "2024-05-17T14:00:00+0200"})
    with open_isolated(path) as video:
        assert video.recorded_at == NOON
        assert video.recorded_at.utcoffset() == timedelta(hours=2)


@pytest.mark.parametrize(
    "text",
    [
        "1904-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:12.000000Z",
        "2001-01-01T00:00:00.000000Z",
        "2140-02-30T00:00:00Z",
        "2999-01-01T00:00:00Z",
        "2024-05-17",
        "2024-W20-5",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "yesterday at noon",
        "",
        "\0\0\0\0\0\0\0\0\0\0\0\0",
    ],
)
def test_nonsense_is_nothing(text):
    assert recorded_at({"creation_time": text}) is None
    assert recorded_at({APPLE: text}) is None


def test_the_common_tag_is_in_utc_where_it_has_no_zone_and_the_zoned_one_must_have_one():
    assert recorded_at({"creation_time": "2024-05-17 12:00:00"}) == NOON
    assert recorded_at({APPLE: "2024-05-17 12:00:00"}) is None


def test_the_container_is_believed_before_the_stream_and_nonsense_is_passed_over():
    earlier, noon = {"CREATION_TIME": "2020-01-01T00:00:00Z"}, {"creation_time": " 2024-05-17T12:00:00Z "}
    assert recorded_at(noon, earlier) == NOON
    assert recorded_at({"creation_time": "1904-01-01T00:00:00Z"}, noon) == NOON
    assert recorded_at(earlier, {APPLE: "2024-05-17T12:00:00Z"}) == NOON
