import json
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.store import Store
from worker.store.sources import Source

GATE = ("source", "set", "depot", "gate-2", "--pattern", "gate_%Y%m%d_%H%M", "--time-zone", "Europe/Berlin")


def test_how_a_source_names_its_files_is_said_tried_and_listed(videomind: Callable, store: Store):
    code, out, _ = videomind(*GATE, "--example", "gate_20260301_0800.mp4")
    assert code == 0
    assert out.splitlines() == [
        "depot/gate-2: gate_%Y%m%d_%H%M, Europe/Berlin",
        "gate_20260301_0800.mp4 began at 2026-03-01T07:00:00+00:00",
    ]
    assert store.sources.all() == [Source("depot", "gate-2", "gate_%Y%m%d_%H%M", "Europe/Berlin", 0)]
    shown = videomind("source", "list")[1]
    assert shown.split()[-5:] == ["depot", "gate-2", "0", "gate_%Y%m%d_%H%M", "Europe/Berlin"]
    told = json.loads(videomind("source", "list", "--json")[1])
    assert (told["source"], told["recorded_at_pattern"], told["videos"]) == ("gate-2", "gate_%Y%m%d_%H%M", 0)
    assert videomind("source", "set", "depot", "gate-2")[:2] == (0, "depot/gate-2: no pattern, UTC\n")
    assert store.sources.all() == [Source("depot", "gate-2", None, None, 0)]


def test_what_comes_from_then_on_is_dated_by_its_name(
    videomind: Callable, store: Store, mind, encode, tmp_path: Path
):
    videomind(*GATE)
    video = encode(tmp_path / "gate_20260301_0800.mp4")
    videomind("submit", video, "-q", "a", "--collection", "depot", "--source", "gate-2")
    videomind("worker", "--drain")
    out = videomind("sql", "SELECT recorded_at, recorded_at_origin FROM videos", "--json")[1]
    assert json.loads(out) == {"recorded_at": "2026-03-01 07:00:00.000000", "recorded_at_origin": "filename"}
    assert store.sources.all()[0].videos == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (("depot", "gate-2", "--pattern", "gate_%Q"), "'%Q'"),
        (("depot", "gate-2", "--pattern", "gate_%H%M"), "gives no time"),
        (("depot", "gate-2", "--time-zone", "Mars"), "no such time zone"),
        (
            ("depot", "gate-2", "--pattern", "%Y%m%d", "--example", "yard.mp4"),
            "no time was found in 'yard.mp4'",
        ),
        (("depot", "gate-2", "--example", "20260301.mp4"), "no time was found"),
        (("depot", " "), "1 to 200 characters"),
        (("d" * 201, "gate-2"), "1 to 200 characters"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(
    videomind: Callable, store: Store, how: tuple[str, ...], told: str
):
    code, out, err = videomind("source", "set", *how)
    assert (code, out) == (3, "")
    assert told in err
    assert store.sources.all() == []
