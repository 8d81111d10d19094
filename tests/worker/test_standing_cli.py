import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.worker.made import source_of
from worker.columns import Secret
from worker.settings import Settings, using
from worker.standing import Standing
from worker.store import Store

EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
QUESTION = "Who comes in?"
HERE = ("--collection", "depot")


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


@pytest.fixture
def answered(store: Store, registered, mind, found) -> Callable[..., None]:
    """A video of the depot, with all that stands answered."""

    def answer(sha256: str = "1" * 64, **how: object) -> None:
        ids = registered(sha256=sha256, collection="depot", source="gate", **how)
        for claim in store.analyses.claim_these(ids, "w", mind.fingerprint, Settings().lease):
            store.analyses.finish(claim, found(claim.request.question))

    return answer


# Keeping them.


def test_a_standing_question_is_added_listed_switched_and_removed(videomind: Callable, store: Store):
    given = ("--source", "gate", "--option", "a guard", "--option", "nobody", "--threshold", "0.6")
    when = ("--hours", "22:00-06:00", "--time-zone", "Europe/Berlin", "--active-from", "2026-03-01T00:00Z")
    code, out, err = videomind("standing", "add", QUESTION, *HERE, *given, *when)
    assert (code, out) == (0, f"standing question 1: {QUESTION}\n")
    assert "nothing has come from depot/gate so far" in err
    (row,) = _lines(videomind("standing", "list", "--json")[1])
    assert (row["standing_id"], row["enabled"], row["options"]) == (1, True, ["a guard", "nobody"])
    assert (row["hours"], row["active_from"]) == ("22:00-06:00", "2026-03-01T00:00:00+00:00")
    assert videomind("standing", "disable", 1)[0] == 0
    assert "22:00-06:00" in videomind("standing", "list")[1]
    assert _lines(videomind("standing", "list", "--json")[1])[0]["enabled"] is False
    assert videomind("standing", "enable", 1)[0] == 0
    assert videomind("standing", "remove", 1)[0] == 0
    assert videomind("standing", "list", "--json")[1] == ""


def test_what_may_not_be_asked_yet_is_kept_for_later(videomind: Callable, store: Store):
    videomind("standing", "add", QUESTION, *HERE, "--disabled")
    assert [kept.enabled for kept in store.standing.all()] == [False]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("add", QUESTION), 2, "--collection"),
        (("add", QUESTION, *HERE, "--active-from", "2026-03-01T08:00"), 2, "time zone"),
        (("add", QUESTION, *HERE, "--window", "10"), 2, "window"),
        (("add", " ", *HERE), 3, "empty"),
        (("add", QUESTION, *HERE, "--hours", "at night"), 3, "22:00-06:00"),
        (("add", QUESTION, *HERE, "--mode", "answer"), 3, "no moments"),
        (("add", QUESTION, *HERE, "--webhook", "ftp://host/"), 3, "no URL"),
        (("add", QUESTION, *HERE, "--webhook", "https://host/"), 3, "set VIDEOMIND_WEBHOOK_SECRET"),
        (("enable", "7"), 3, "no standing question 7"),
        (("remove", "7"), 3, "no standing question 7"),
        (("backtest", QUESTION, *HERE), 3, "no readable video of depot"),
    ],
)
def test_what_cannot_be_is_told(videomind: Callable, store: Store, arguments: tuple, code: int, told: str):
    found, _, err = videomind("standing", *arguments)
    assert found == code
    assert told in err
    assert store.standing.all() == []


def test_with_a_secret_a_webhook_is_kept_and_shown_without_what_is_secret_in_it(
    videomind: Callable, store: Store, settings: Settings
):
    with using(settings.changed(webhook_secret=SecretStr("secret"))):
        videomind("standing", "add", QUESTION, *HERE, "--webhook", "https://host/hits?key=hidden")
    with Session(store.engine) as session:
        assert session.scalars(select(Secret.url)).all() == ["https://host/hits?key=hidden"]
    (row,) = _lines(videomind("standing", "list", "--json")[1])
    assert row["webhook_url"] == "https://host/hits?key=***"


# What they find.


def test_hits_are_shown_the_latest_last(videomind: Callable, store: Store, answered):
    store.standing.add(Standing(QUESTION, "depot"))
    store.standing.add(Standing("What moves?", "depot"))
    answered(recorded_at=EIGHT)
    code, out, _ = videomind("hits")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("1  2026-03-01 08:00:01 UTC  depot/gate  door.mp4  0:01.0 - 0:01.6  0.70  Who")
    assert "What moves?" in second
    (row,) = _lines(videomind("hits", "--standing", 2, "--json")[1])
    assert (row["hit_id"], row["version"], row["delivery"]["state"]) == (2, 1, "none")
    assert row["starts_at"] == "2026-03-01T08:00:01+00:00"
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert videomind("hits", "--since", later)[1] == ""
    assert len(videomind("hits", "--limit", 1)[1].splitlines()) == 1
    assert videomind("hits", "--follow", "--dead")[0] == 2


def test_what_was_given_up_is_shown_with_its_reason_and_tried_again(
    videomind: Callable, store: Store, answered
):
    store.standing.add(Standing(QUESTION, "depot", webhook_url="https://host/hits"))
    answered()
    assert videomind("hits", "--dead")[1] == ""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE hits SET delivery_state = 'dead', delivery_error = 'no answer'")
    assert videomind("hits", "--dead")[1].endswith("dead: no answer\n")
    assert videomind("hits", "retry")[0] == 2
    assert videomind("hits", "retry", 1, "--dead")[0] == 2
    assert videomind("hits", "retry", 7)[1] == "0 will be tried again\n"
    assert videomind("hits", "retry", 1)[1] == "1 will be tried again\n"
    assert videomind("hits", "retry", "--dead")[1] == "0 will be tried again\n"
    assert store.hits.latest()[0].delivery_state == "pending"


def test_new_hits_are_shown_as_they_come_until_somebody_interrupts(store: Store, url: str, answered):
    store.standing.add(Standing(QUESTION, "depot"))
    answered("1" * 64, recorded_at=EIGHT)
    command = "import sys; from worker import cli; sys.argv[0] = 'videomind'; cli.main()"
    arguments = ("hits", "--follow", "--json", "--database", url)
    following = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        shown = [json.loads(following.stdout.readline())["hit_id"]]
        for number in (2, 3):
            answered(f"{number}" * 64, recorded_at=EIGHT + timedelta(hours=number))
            shown.append(json.loads(following.stdout.readline())["hit_id"])
        following.send_signal(signal.SIGINT)
        rest, err = following.communicate(timeout=60)
    finally:
        following.kill()
    assert shown == [1, 2, 3]
    assert (following.returncode, rest) == (130, "")
    assert "Traceback" not in err


# Trying them.


@pytest.fixture
def archive(store: Store, registered, encode, tmp_path: Path) -> list[Path]:
    """Six videos of two seconds each, one every four hours, of which one is gone."""
    paths = [encode(tmp_path / f"{number}.mp4", seed=number) for number in range(6)]
    for number, path in enumerate(paths):
        uri, sha256 = source_of(path)
        when = EIGHT + timedelta(hours=4 * number)
        registered(uri=uri, sha256=sha256, collection="depot", source="gate", recorded_at=when)
    paths[3].unlink()
    return paths


def test_a_question_is_tried_on_stored_videos_and_nothing_is_kept(
    videomind: Callable, store: Store, mind, archive, tmp_path: Path
):
    sheet = tmp_path / "sheet.png"
    code, out, err = videomind("standing", "backtest", QUESTION, *HERE, "--contact-sheet", sheet)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("5 of 6 videos watched: 0.00 of 0.00 hours, recorded within 1.0 days")
    assert lines[1] == "1 could not be watched, and count as if they had not been chosen"
    assert lines[2].startswith("6.0 hits a day expected: 5 in 0.00 hours watched")
    assert "for each second of video" in lines[3]
    assert lines[4].startswith("0.70  2026-03-01 08:00:01 UTC  0.mp4  0:01.0 - 0:01.6")
    assert "3.mp4" in err
    with Image.open(sheet) as picture:
        assert picture.height > 5 * 48
    assert store.hits.latest() == []
    with store.engine.begin() as connection:
        counts = [
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("analyses", "standing_questions", "standing_analyses")
        ]
    assert counts == [0, 0, 0]


def test_a_sample_is_spread_over_the_time_and_the_same_for_the_same_seed(
    videomind: Callable, mind, archive: list[Path]
):
    def opened(*arguments: object) -> list[str]:
        mind.opened.clear()
        code, out, _ = videomind("standing", "backtest", QUESTION, *HERE, "--sample", 2, "--json", *arguments)
        assert code == 0
        assert len(_lines(out)) == 1
        return [path.name for path in mind.opened]

    seeds = [opened("--since", "2026-03-01T19:00Z", "--seed", seed) for seed in (1, 1, 2, 3)]
    assert seeds[0] == seeds[1]
    assert {tuple(seed) for seed in seeds} <= {("4.mp4", "5.mp4"), ("5.mp4",), ("4.mp4",)}
    first, second = opened("--until", "2026-03-01T19:00Z")
    assert first in ("0.mp4",)
    assert second in ("1.mp4", "2.mp4")


def test_what_is_no_hit_at_that_hour_is_not_expected(videomind: Callable, mind, archive):
    report = _lines(
        videomind("standing", "backtest", QUESTION, *HERE, "--hours", "08:00-13:00", "--json")[1]
    )[0]
    assert (report["sample"]["hits"], report["sample"]["failed"]) == (2, 1)
    assert report["hits_a_day"] == pytest.approx(2 / 5 * 6)
    assert [example["score"] for example in report["examples"]] == [0.7, 0.7]
    code, out, err = videomind(
        "standing", "backtest", QUESTION, *HERE, "--threshold", "0.8", "--contact-sheet", "none.png"
    )
    assert code == 3
    assert "0.0 hits a day" in out
    assert "no hit to draw" in err


def test_where_nothing_can_be_watched_nothing_is_told(videomind: Callable, mind, archive: list[Path]):
    for path in archive:
        path.unlink(missing_ok=True)
    code, out, err = videomind("standing", "backtest", QUESTION, *HERE)
    assert (code, out) == (3, "")
    assert "no video could be watched" in err
