import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.store import Store

EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.fixture
def answered(videomind: Callable, store: Store, mind, video: Path) -> None:
    """Two questions on one video of a camera, answered."""
    place = ("--collection", "depot", "--source", "gate", "--recorded-at", EIGHT.isoformat())
    assert videomind("submit", video, "-q", "Who comes in?", "-q", "Why?", *place)[0] == 0
    assert videomind("worker", "--drain")[0] == 0


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_moments_are_a_table_of_when_where_what_and_how_sure(videomind: Callable, answered):
    code, out, err = videomind("moments", "--text", "comes", "--time-zone", "Europe/Berlin")
    assert (code, err) == (0, "")
    head, _, row = out.splitlines()
    assert head.split() == [
        "when", "source", "video", "span", "confidence", "verifier_score", "question", "answer"
    ]  # fmt: skip
    assert row.startswith("2026-03-01 09:00:01  depot/gate  door.mp4  0:01.0 - 0:01.6  0.5000")
    assert row.endswith("Who comes in?  through the door")


def test_moments_for_programs_are_exact_and_in_the_zone_asked_for(videomind: Callable, answered):
    one = ("moments", "--text", "comes", "--time-zone", "Europe/Berlin")
    (found,) = _lines(videomind(*one, "--json")[1])
    assert found["starts_at"] == "2026-03-01T09:00:01+01:00"
    assert (found["rank"], found["verifier_score"], found["fallback"]) == (1, 0.7, False)
    (row,) = csv.DictReader(videomind(*one, "--csv")[1].splitlines())
    assert row.keys() == found.keys()
    assert (row["starts_at"], row["answer"]) == (found["starts_at"], "through the door")
    assert len(_lines(videomind("moments", "--all-ranks", "--json")[1])) == 4
    assert {line["rank"] for line in _lines(videomind("moments", "--rank", 2, "--json")[1])} == {2}


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--since", "2026-03-01T09:00", "--time-zone", "Europe/Berlin"), 2),
        (("--since", "2026-03-01T09:00"), 0),
        (("--until", "2026-03-01T08:00:00+00:00"), 0),
        (("--between", "07:00-09:00", "--time-zone", "UTC"), 2),
        (("--between", "22:00-06:00"), 0),
        (("--source", "gate", "--min-score", "0.7"), 2),
        (("--min-score", "0.71"), 0),
        (("--collection", "school"), 0),
    ],
)
def test_moments_are_filtered(videomind: Callable, answered, arguments: tuple[str, ...], count: int):
    code, out, err = videomind("moments", *arguments, "--json")
    assert (code, len(out.splitlines())) == (0, count)
    assert ("nothing found" in err) == (count == 0)


def test_nothing_found_is_said_apart_from_the_rows(videomind: Callable, store: Store):
    assert videomind("moments") == (0, "", "videomind: nothing found\n")
    assert videomind("answers", "--json") == (0, "", "videomind: nothing found\n")
    code, out, err = videomind("moments", "--since", "2026-03-01", "--csv")
    assert (code, out.count("\n"), out.split(",")[0]) == (0, 1, "moment_id")
    assert err == "videomind: nothing found (of recordings whose beginning is known)\n"


def test_that_there_may_be_more_is_said(videomind: Callable, answered):
    code, out, err = videomind("moments", "--limit", 1)
    assert (code, len(out.splitlines())) == (0, 3)
    assert err == "videomind: 1 rows: there may be more, with --limit\n"


def test_answers_stand_beside_their_questions(videomind: Callable, answered):
    code, out, _ = videomind("answers", "--text", "why")
    assert code == 0
    assert out.splitlines()[-1].startswith("2026-03-01 08:00:00  depot/gate  door.mp4  0:00.0 - 0:02.0  Why?")
    assert out.endswith("through the door\n")
    assert len(_lines(videomind("answers", "--json")[1])) == 2


def test_coverage_says_what_was_searched_and_what_not(videomind: Callable, answered):
    (found, _) = _lines(videomind("coverage", "--json")[1])
    assert (found["verdict"], found["end_seconds"], found["source"]) == ("not_searched", 2.0, "gate")
    assert "not_searched" in videomind("coverage", "--verdict", "not_searched")[1]
    assert videomind("coverage", "--verdict", "found")[1:] == ("", "videomind: nothing found\n")
    (gap, _) = _lines(videomind("coverage", "--gaps", "--json")[1])
    assert (gap["start_seconds"], gap["end_seconds"], gap["state"]) == (0.0, 2.0, "succeeded")
    assert "0:00.0 - 0:02.0" in videomind("coverage", "--gaps")[1]


def test_passwords_in_uris_are_not_shown(videomind: Callable, store: Store, registered: Callable):
    registered("Who?", uri="https://anna:hush@cams.example/gate.mp4?token=f00d")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE analyses SET state = 'failed'")
    for form in ("--json", "--csv"):
        printed = videomind("coverage", "--gaps", form)[1]
        assert "https://anna:***@cams.example/gate.mp4?token=***" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ("moments", "--since", "yesterday"),
        ("moments", "--between", "10-12"),
        ("moments", "--time-zone", "Europe/Nowhere"),
        ("moments", "--json", "--csv"),
        ("moments", "--rank", "0"),
        ("answers", "--limit", "0"),
        ("coverage", "--verdict", "odd"),
        ("coverage", "--gaps", "--verdict", "found"),
    ],
)
def test_wrong_usage_ends_with_2(videomind: Callable, store: Store, arguments: tuple[str, ...]):
    assert videomind(*arguments)[0] == 2
