import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image

from vm.moments import Candidate, Moment, Span
from vm.result import Result
from worker.reindexing import Limits, Rule
from worker.store import Store

MINUTES = timedelta(minutes=5)
OLD = "o" * 64
HUGE = 2**63
NEVER = ("--since", "2026-03-02T08:00Z", "--until", "2026-03-01T08:00Z")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which every row has a line."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def answered(store: Store, registered, found) -> Callable[..., None]:
    """Has questions of a video answered by the checkpoint of before, which saw one moment."""

    def answer(*questions: str, **how: object) -> None:
        ids = registered(*questions, fingerprint=OLD, **how)
        for claim in store.analyses.claim_these(ids, "worker", OLD, MINUTES):
            store.analyses.finish(claim, _with_one_moment(found(claim.request.question)))

    return answer


@pytest.fixture
def work(store: Store, mind, found) -> Callable[[], None]:
    """Answers all that waits for the present checkpoint."""

    def answer_all() -> None:
        for claim in store.analyses.claim("worker", mind.fingerprint, MINUTES, 3):
            store.analyses.finish(claim, found(claim.request.question))

    return answer_all


def _with_one_moment(result: Result) -> Result:
    candidate = Candidate(Span(0.9, 1.6), 0.5)
    return replace(result, candidates=(candidate,), moments=(Moment(candidate, 1, "a door opens"),))


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_a_dry_run_tells_how_much_it_would_be_and_changes_nothing(videomind, store: Store, mind, answered):
    answered("Who?", "Why?", collection="depot", source="gate")
    code, out, _ = videomind("reindex", "plan", "--stale", "--collection", "depot", "--dry-run")
    assert code == 0
    assert out.splitlines() == [
        "2 questions of 1 videos, 0.00 hours of video",
        "  stale: 2",
        "about 0:00:01 of compute, by what questions have taken so far",
    ]
    (told,) = _lines(videomind("reindex", "plan", "--dry-run", "--json")[1])
    assert (told["run"], told["questions"], told["reasons"]) == (None, 2, {"stale": 2})
    assert store.reindex.runs() == []


def test_a_run_is_planned_done_compared_and_taken_back(videomind, store: Store, mind, answered, work):
    answered("Who?")
    out = videomind("reindex", "plan")[1]
    assert out.endswith("run 1: begin it with `videomind reindex start 1`\n")
    assert "nothing to compare" in videomind("reindex", "diff", 1)[1]
    code, out, err = videomind("reindex", "start", 1)
    assert (code, err) == (0, "")
    assert "running" in out
    assert "0 of 1" in out
    work()
    (told,) = _lines(videomind("reindex", "status", 1, "--json")[1])
    assert (told["state"], told["done"], told["total"], told["items"]) == ("finished", 1, 1, {"switched": 1})
    assert told["rule"]["reasons"] == ["stale"]
    counts, gained, shifted = _lines(videomind("reindex", "diff", 1, "--all-ranks", "--json")[1])
    assert counts == {"run": 1, "counts": {"gained": 1, "shifted": 1}}
    assert (gained["change"], gained["new_start_seconds"]) == ("gained", 0.1)
    assert (shifted["old_start_seconds"], shifted["new_start_seconds"]) == (0.9, 1.0)
    out = videomind("reindex", "diff", 1)[1]
    assert "1 shifted" in out
    assert "0:00.9 - 0:01.6" in out
    assert videomind("reindex", "rollback", 1)[1] == "run 1 was rolled back: 1 questions\n"
    code, _, err = videomind("reindex", "rollback", 1)
    assert code == 3
    assert "run 1 is rolled back, not finished or cancelled" in err


def test_a_run_is_paused_resumed_and_cancelled(videomind, store: Store, mind, answered):
    answered("Who?")
    videomind("reindex", "plan")
    for command, state, items in (
        ("start", "running", {"asked": 1}),
        ("pause", "paused", {"waiting": 1}),
        ("resume", "running", {"asked": 1}),
        ("cancel", "cancelled", {"cancelled": 1}),
    ):
        code, out, _ = videomind("reindex", command, 1)
        assert code == 0
        assert state in out
        assert store.reindex.run(1).items == items
    assert videomind("reindex", "resume", 1)[0] == 3


def test_what_is_named_goes_into_rule_and_limits(videomind, store: Store, mind):
    why = ("--failed", "--never", "--older-than", "30", "--low-score", "0.4", "-q", "Who?", "-q", "Why?")
    where = ("--collection", "depot", "--source", "gate", "--since", "2026-03-01T00:00Z")
    limits = (
        "--priority",
        "4",
        "--budget-hours",
        "6",
        "--hours",
        "22:00-06:00",
        "--time-zone",
        "Europe/Berlin",
    )
    assert videomind("reindex", "plan", *why, *where, *limits)[0] == 0
    run = store.reindex.run(1)
    reasons = ("failed", "never", "old", "low_score")
    questions = ("Who?", "Why?")
    assert run.rule == Rule(reasons, 30, 0.4, "depot", "gate", "2026-03-01T00:00Z", None, questions)
    assert run.limits == Limits(4, 6, "22:00-06:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("plan", "--low-score", "2"), 3, "scores go from 0 to 1"),
        (("plan", "--low-score", "nan"), 3, "scores go from 0 to 1"),
        (("plan", "--older-than", "-1"), 3, "days"),
        (("plan", "--older-than", "1e9"), 3, "days"),
        (("plan", "--budget-hours", "inf"), 3, "budget"),
        (("plan", "--budget-hours", "0"), 3, "budget"),
        (("plan", "--priority", "5"), 2, "priority"),
        (("plan", "--hours", "at night"), 3, "22:00-06:00"),
        (("plan", "--time-zone", "Europe/Nowhere"), 3, "no time zone"),
        (("plan", "--since", "2026-03-01T08:00"), 3, "no time zone: add it"),
        (("plan", "--since", ""), 3, "is no time"),
        (("plan", "--until", "9999-12-31T23:59-14:00"), 3, "is no time"),
        (("plan", *NEVER), 3, "before it begins"),
        (("plan", "--source", "gate"), 3, "name both"),
        (("prune", "--older-than", "1e12"), 3, "days"),
        (("prune", "--keep", "-1"), 2, "keep"),
        (("status", "1", "--watch", "--json"), 2, "watch"),
        (("status", "0"), 2, "RUN"),
        (("diff", "1", "--contact-sheet", "nowhere/sheet.png"), 2, "no folder"),
        *(
            ((command, "7"), 3, "there is no run 7")
            for command in ("start", "pause", "resume", "cancel", "rollback", "status", "diff")
        ),
        (("start", str(HUGE)), 2, "RUN"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_planned(
    videomind, store: Store, mind, arguments: tuple, code: int, told: str
):
    found, out, err = videomind("reindex", *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err
    assert store.reindex.runs() == []


def test_an_empty_archive_is_done_at_once(videomind, store: Store, mind):
    assert videomind("reindex", "status", "--json")[:2] == (0, "")
    assert videomind("reindex", "status", "--watch")[0] == 0
    out = videomind("reindex", "plan")[1]
    assert "0 questions of 0 videos" in out
    assert "nothing was measured yet" in out
    assert "finished" in videomind("reindex", "start", 1)[1]
    assert "nothing to compare" in videomind("reindex", "diff", 1)[1]
    assert videomind("reindex", "prune")[1] == "0 earlier answers are forgotten\n"


def test_a_run_for_another_checkpoint_is_said_to_wait_for_its_workers(
    videomind, store: Store, mind, answered
):
    answered("Who?")
    store.reindex.plan(Rule(), Limits(), "n" * 64)
    code, out, err = videomind("reindex", "start", 1)
    assert code == 0
    assert "running" in out
    assert "it asks checkpoint nnnnnnnnnnnn, and here is ffffffffffff" in err


def test_watching_goes_on_until_nothing_runs_or_somebody_interrupts(
    videomind, store: Store, mind, answered, work, monkeypatch: pytest.MonkeyPatch
):
    answered("Who?")
    videomind("reindex", "plan")
    videomind("reindex", "plan")  # which nobody starts
    videomind("reindex", "start", 1)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.show.time.sleep", interrupt)
    code, _, err = videomind("reindex", "status", "--watch")
    assert code == 130
    assert "Traceback" not in err
    monkeypatch.setattr("worker.show.time.sleep", lambda _: work())
    code, out, _ = videomind("reindex", "status", "--watch")
    assert code == 0
    assert "finished" in out
    assert "planned" in out


# Pictures of what has changed.


@pytest.fixture
def switched(videomind, mind, answered, work) -> None:
    """A run that has moved one moment of a real video."""
    answered("Who?")
    videomind("reindex", "plan")
    videomind("reindex", "start", 1)
    work()


def test_frames_of_the_changes_are_drawn_before_above_after(videomind, switched, tmp_path: Path):
    sheet = tmp_path / "sheet.png"
    assert videomind("reindex", "diff", 1, "--contact-sheet", sheet)[0] == 0
    with Image.open(sheet) as picture:
        assert picture.height > 2 * 48


def test_a_video_that_is_gone_or_another_is_told(videomind, store: Store, switched, tmp_path: Path):
    sheet = tmp_path / "sheet.png"
    other = tmp_path / "other.mp4"
    other.write_bytes(b"another")
    for uri in ("file:///gone.mp4", other.as_uri()):
        with store.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE videos SET uri = '{uri}'")
        code, out, err = videomind("reindex", "diff", 1, "--contact-sheet", sheet)
        assert code == 3
        assert "1 shifted" in out
        assert f"{uri}: " in err
        assert "none of the videos can be read" in err
        assert not sheet.exists()


def test_where_no_moment_has_changed_there_is_nothing_to_draw(videomind, store: Store, mind, tmp_path: Path):
    store.reindex.plan(Rule(), Limits(), mind.fingerprint)
    code, _, err = videomind("reindex", "diff", 1, "--contact-sheet", tmp_path / "sheet.png")
    assert code == 3
    assert "no moment has changed" in err


# Old generations.


def test_earlier_answers_go_when_somebody_says_so(videomind, store: Store, switched):
    count = "SELECT count(*) FROM analyses"
    arguments = ("reindex", "prune", "--keep", 0, "--older-than", 0)
    assert videomind(*arguments, "--dry-run")[1] == "1 earlier answers would be forgotten\n"
    with store.engine.begin() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == 2
    assert videomind("reindex", "prune")[1] == "0 earlier answers are forgotten\n"
    assert videomind(*arguments)[1] == "1 earlier answers are forgotten\n"
    with store.engine.begin() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == 1
    assert "nothing to compare" in videomind("reindex", "diff", 1)[1]
    out = videomind("reindex", "rollback", 1)[1]
    assert out.startswith("run 1 was rolled back: 0 questions\n1 were left")
