import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.servers import DATABASES
from tests.worker.made import source_of
from vm.result import Result
from worker.columns import Secret
from worker.settings import Settings, using
from worker.store import Store

EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
QUESTION = "Who comes in?"
HERE = ("--collection", "depot")
BEFORE_THREE = ("--until", "2026-03-01T19:00Z")
BACKWARDS = ("--since", "2026-03-02T00:00Z", "--until", "2026-03-01T00:00Z")


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


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
        (("add", QUESTION, *HERE, "--active-until", "yesterday"), 2, "is no time"),
        (("add", QUESTION, *HERE, "--active-from", "9999-12-31T23:59-14:00"), 2, "is no time"),
        *(
            ((command, identifier), code, told)
            for command in ("enable", "disable", "remove")
            for identifier, code, told in (("7", 3, "no standing question 7"), (str(2**63), 2, "ID"))
        ),
        (("backtest", QUESTION, *HERE), 3, "no readable video of depot"),
        (("backtest", QUESTION), 2, "--collection"),
        (("backtest", " ", *HERE), 3, "empty"),
        (("backtest", QUESTION, *HERE, "--source", ""), 3, "name collection and source"),
        (("backtest", QUESTION, *HERE, "--sample", "0"), 2, "--sample"),
        (("backtest", QUESTION, *HERE, "--threshold", "nan"), 3, "scores go from 0 to 1"),
        (("backtest", QUESTION, *HERE, "--hours", "at night"), 3, "22:00-06:00"),
        (("backtest", QUESTION, *HERE, "--time-zone", "Mars"), 3, "no time zone"),
        (("backtest", QUESTION, *HERE, "--window", "10"), 2, "window"),
        (("backtest", QUESTION, *HERE, "--mode", "answer"), 3, "no moments"),
        (("backtest", QUESTION, *HERE, "--option", "one"), 3, "options"),
        (("backtest", QUESTION, *HERE, "--since", "2026-03-01T08:00"), 2, "no time zone"),
        (("backtest", QUESTION, *HERE, "--until", "9999-12-31T23:59-14:00"), 2, "is no time"),
        (("backtest", QUESTION, *HERE, *BACKWARDS), 3, "before it begins"),
        (("backtest", QUESTION, *HERE, "--contact-sheet", "nowhere/sheet.png"), 2, "no folder"),
    ],
)
def test_what_cannot_be_is_told(videomind: Callable, store: Store, arguments: tuple, code: int, told: str):
    found, _, err = videomind("standing", *arguments)
    assert found == code
    assert told in err
    assert "Traceback" not in err
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


@pytest.mark.parametrize("database", DATABASES)
def test_in_json_a_trial_has_all_that_is_told(videomind: Callable, mind, archive: list[Path]):
    how = (*HERE, *BEFORE_THREE, "--sample", 1, "--json")
    (report,) = _lines(videomind("standing", "backtest", QUESTION, *how)[1])
    assert report["archive"] == {"videos": 3, "hours": pytest.approx(6 / 3600), "days": 1.0}
    assert report["sample"] == {"videos": 1, "failed": 0, "hours": pytest.approx(2 / 3600), "hits": 1}
    assert report["hours_a_day"] == pytest.approx(6 / 3600)
    assert report["hits_a_day"] == pytest.approx(3.0)
    rate = report["compute_seconds_per_video_second"]
    assert rate > 0
    assert report["compute_hours_a_day"] == pytest.approx(rate * 6 / 3600)
    (example,) = report["examples"]
    number = int(Path(example.pop("video")).stem)
    when = (EIGHT + timedelta(hours=4 * number, seconds=1)).isoformat()
    assert example == {
        "start_seconds": 1.0,
        "end_seconds": 1.6,
        "starts_at": when,
        "score": 0.7,
        "answer": "through the door",
    }


def test_a_trial_asks_as_the_standing_question_would(
    videomind: Callable, mind, archive, found, monkeypatch: pytest.MonkeyPatch
):
    asked: list[dict] = []

    def ask(question: str, **how: object) -> Result:
        asked.append({"question": question, **how})
        return found(question)

    monkeypatch.setattr(mind, "_ask", ask)
    how = ("--mode", "ground", "--window", "none", "--option", "a guard", "--option", "nobody")
    assert videomind("standing", "backtest", QUESTION, *HERE, *BEFORE_THREE, "--sample", 1, *how)[0] == 0
    (first,) = asked
    assert (first["question"], first["mode"], first["window"]) == (QUESTION, "ground", None)
    assert first["options"] == ("a guard", "nobody")


@pytest.mark.parametrize("database", DATABASES)
def test_only_what_comes_from_there_is_tried(
    videomind: Callable, store: Store, mind, archive, registered, encode, tmp_path: Path
):
    uri, sha256 = source_of(encode(tmp_path / "yard.mp4", seed=9))
    registered(uri=uri, sha256=sha256, collection="depot", source="yard", recorded_at=EIGHT)

    def opened(*where: str) -> list[str]:
        mind.opened.clear()
        videomind("standing", "backtest", QUESTION, *where)
        return sorted(path.name for path in mind.opened)

    gate = ["0.mp4", "1.mp4", "2.mp4", "4.mp4", "5.mp4"]
    assert opened(*HERE) == [*gate, "yard.mp4"]
    assert opened(*HERE, "--source", "gate") == gate
    assert opened(*HERE, "--source", "yard") == ["yard.mp4"]
    assert opened(*HERE, "--source", "cellar") == []
    assert opened("--collection", "nowhere") == []


@pytest.mark.parametrize("database", DATABASES)
def test_a_trial_expects_the_hits_that_come_once_the_question_stands(
    videomind: Callable, store: Store, mind, encode, found, registered, tmp_path: Path
):
    places = [("gate", 0), ("gate", 2), ("gate", 60), ("yard", 0)]  # the first two go on into each other
    videos = [source_of(encode(tmp_path / f"{number}.mp4", seed=number)) for number in range(len(places))]

    def hand_in() -> list[int]:
        return [
            analysis
            for (uri, sha256), (source, second) in zip(videos, places, strict=True)
            for analysis in registered(
                uri=uri,
                sha256=sha256,
                collection="depot",
                source=source,
                recorded_at=EIGHT + timedelta(seconds=second),
            )
        ]

    hand_in()
    (report,) = _lines(videomind("standing", "backtest", QUESTION, *HERE, "--threshold", "0.3", "--json")[1])
    videomind("standing", "add", QUESTION, *HERE, "--threshold", "0.3")
    for claim in store.analyses.claim_these(hand_in(), "w", mind.fingerprint, Settings().lease):
        store.analyses.finish(claim, found(QUESTION))
    came = len(store.hits.latest())
    assert report["sample"]["hits"] == came
    assert came < 2 * len(places)


def test_an_interruption_ends_a_trial_at_once(videomind: Callable, mind, archive, found):
    def interrupt() -> Result:
        signal.raise_signal(signal.SIGINT)
        return found(QUESTION)

    mind.answers[QUESTION] = interrupt
    code, out, err = videomind("standing", "backtest", QUESTION, *HERE)
    assert (code, out, err) == (130, "", "videomind: interrupted\n")
    assert len(mind.asked) == 1


def test_a_picture_that_cannot_be_written_takes_no_report_away(
    videomind: Callable, mind, archive, tmp_path: Path
):
    target = tmp_path / f"{'long' * 100}.png"
    code, out, err = videomind("standing", "backtest", QUESTION, *HERE, "--contact-sheet", target)
    assert code == 3
    assert "6.0 hits a day expected" in out
    assert "cannot be written" in err
