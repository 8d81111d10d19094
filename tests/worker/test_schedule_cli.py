import json
from collections.abc import Callable

import pytest

from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.store import Store

NEVER = ("--since", "2026-03-02T08:00Z", "--until", "2026-03-01T08:00Z")
NIGHTLY = ("nightly", "--cron", "0 22 * * *", "--time-zone", "Europe/Berlin")


def test_a_schedule_is_added_listed_switched_and_removed(videomind: Callable, store: Store):
    how = ("--failed", "--hours", "22:00-06:00", "--budget-hours", "6", "--catch-up", "skip")
    code, out, _ = videomind("schedule", "add", *NIGHTLY, *how)
    assert code == 0
    assert out.startswith("nightly: next at 20")
    (kept,) = store.schedules.all()
    limits = Limits(compute_hours=6, hours="22:00-06:00", time_zone="Europe/Berlin")
    rule = Rule(("failed",))
    assert kept.schedule == Schedule("nightly", "0 22 * * *", rule, limits, "Europe/Berlin", "skip")
    out = videomind("schedule", "list")[1]
    assert "nightly" in out
    assert "failed" in out
    assert videomind("schedule", "disable", "nightly")[0] == 0
    assert videomind("schedule", "list")[1].rstrip().endswith("off")
    told = json.loads(videomind("schedule", "list", "--json")[1])
    assert (told["schedule"]["cron"], told["enabled"], told["next"]) == ("0 22 * * *", False, None)
    assert videomind("schedule", "enable", "nightly")[0] == 0
    assert json.loads(videomind("schedule", "list", "--json")[1])["next"].endswith("+00:00")
    assert videomind("schedule", "remove", "nightly")[0] == 0
    assert videomind("schedule", "list", "--json")[1] == ""


def test_one_of_the_same_name_is_changed(videomind: Callable, store: Store):
    videomind("schedule", "add", *NIGHTLY)
    videomind("schedule", "add", "nightly", "--cron", "0 3 * * 0")
    assert [kept.schedule.cron for kept in store.schedules.all()] == ["0 3 * * 0"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("add", "x"), 2, "--cron"),
        (("add", " ", "--cron", "0 3 * * *"), 3, "a name"),
        (("add", "x", "--cron", "whenever"), 3, "five fields"),
        (("add", "x", "--cron", "0 22 * * *", "--never", "-q", "..."), 3, "question is empty"),
        (("add", "x", "--cron", "0 0 30 2 *"), 3, "names no time"),
        (("add", "x", "--cron", "0 3 * * *", "--time-zone", "Mars"), 3, "no time zone"),
        (("add", "x", "--cron", "0 3 * * *", "--catch-up", "twice"), 2, "catch-up"),
        (("add", "x", "--cron", "0 3 * * *", *NEVER), 3, "before it begins"),
        (("enable", "x"), 3, "there is no schedule 'x'"),
        (("disable", "x"), 3, "there is no schedule 'x'"),
        (("remove", "x"), 3, "there is no schedule 'x'"),
    ],
)
def test_what_cannot_be_is_told(videomind: Callable, store: Store, arguments: tuple, code: int, told: str):
    found, out, err = videomind("schedule", *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert store.schedules.all() == []


def test_a_name_cannot_move_the_cursor(videomind: Callable, store: Store):
    videomind("schedule", "add", "\x1b[2Jnightly", "--cron", "0 3 * * *")
    assert "\x1b" not in videomind("schedule", "add", "\x1b[2Jnightly", "--cron", "0 3 * * *")[1]
    assert "\x1b" not in videomind("schedule", "list")[1]
