import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vm.errors import InvalidSource
from vm.moments import Span
from vm.subtitles import Cue
from worker.jobs import Lease, Progress
from worker.standing import Standing
from worker.store import Store


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_what_is_submitted_is_answered_by_an_embedded_worker(
    videomind: Callable, store: Store, mind, video: Path
):
    code, out, _ = videomind("submit", video, "-q", "a", "-q", "b", "--priority", 7)
    assert (code, out) == (0, f"submission 1: {video.as_uri()}\n")
    code, _, err = videomind("worker", "--drain")
    assert code == 0
    assert "no broker is named" in err
    assert mind.asked == ["a", "b"]
    code, out, _ = videomind("status", "--state", "succeeded", "--json")
    assert [line["state"] for line in _lines(out)] == ["succeeded"] * 3


def test_uris_are_taken_as_they_are_and_paths_made_absolute(
    videomind: Callable, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    _, out, _ = videomind("submit", "a.mp4", "https://cams.example/b.mp4", "-q", "a", "--json")
    uris = [(tmp_path / "a.mp4").as_uri(), "https://cams.example/b.mp4"]
    assert [line["uri"] for line in _lines(out)] == uris
    assert all(line["request_ids"] for line in _lines(out))


@pytest.mark.parametrize(
    "arguments",
    [
        ("-q", "a", "--source", "gate"),
        ("-q", "a", "--recorded-at", "yesterday"),
        ("-q", "a", "--recorded-at", "2026-03-01T08:00:00"),
        ("-q", "a", "--priority", "10"),
        ("--option", "a", "--option", "b"),
    ],
)
def test_wrong_usage_ends_with_2(videomind: Callable, store: Store, video: Path, arguments: tuple):
    assert videomind("submit", video, *arguments)[0] == 2
    assert store.queues.arrivals() == []


def test_without_a_question_what_stands_is_asked(videomind: Callable, store: Store, mind, video: Path):
    code, _, err = videomind("submit", video, "--collection", "depot")
    assert code == 0
    assert "nothing will be asked" in err
    store.standing.add(Standing("Who climbs the fence?", "depot"))
    code, _, err = videomind("submit", video, "--collection", "depot")
    assert (code, err) == (0, "")
    videomind("worker", "--drain")
    assert mind.asked == ["Who climbs the fence?"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("-q", "..."), "question is empty"),
        (("-q", "a", "--option", "x"), "between 2 and 26 options"),
        (("-q", "a" * 4001), "longer than 4000"),
        (("-q", "a", "--window", "30"), "at least 50 s"),
        (("-q", "a", "--collection", "d" * 201), "1 to 200 characters"),
        (("-q", "a", "--collection", "d", "--source", " "), "1 to 200 characters"),
    ],
)
def test_what_no_model_would_be_asked_is_not_submitted(
    videomind: Callable, store: Store, video: Path, asked: tuple, told: str
):
    code, out, err = videomind("submit", video, *asked)
    assert (code, out) == (2 if "--window" in asked else 3, "")
    assert told in err
    assert store.queues.arrivals() == []


def test_the_status_names_what_waits_and_what_failed(
    videomind: Callable, store: Store, mind, video: Path, tmp_path: Path
):
    videomind("submit", tmp_path / "none.mp4", "-q", "a")
    videomind("worker", "--drain")
    videomind("submit", video, "-q", "Who comes in?")
    code, out, _ = videomind("status")
    assert code == 0
    assert "ingest: 1 waiting, 0 running" in out
    assert "invalid_source" in out
    assert videomind("status", "--state", "odd")[0] == 2


def test_the_status_tells_how_long_what_runs_will_take(
    videomind: Callable, store: Store, mind, video: Path, found
):
    shown = {}

    def look() -> object:
        (running,) = store.queues.standings(["running"])
        lease = Lease(running.analysis_id, 1)
        for left in (100.4, None, -5.0):
            store.analyses.report(lease, Progress("verifier", 0.625, left))
            shown[left] = videomind("status")[1], _lines(videomind("status", "--json")[1])[-1]
        return found("a")

    mind.answers["a"] = look
    videomind("submit", video, "-q", "a")
    videomind("worker", "--drain")
    table, row = shown[100.4]
    assert re.search(r"62% verifier, 0:01:(39|40) left", table)
    assert datetime.fromisoformat(row["eta"]) > datetime.now(UTC)
    assert "left" not in shown[None][0]
    assert shown[None][1]["eta"] is None
    assert "62% verifier, 0:00:00 left" in shown[-5.0][0]


def test_what_was_cancelled_is_not_answered_and_can_be_tried_again(
    videomind: Callable, store: Store, mind, video: Path
):
    videomind("submit", video, "-q", "a")
    assert videomind("cancel", 1)[0] == 0
    videomind("worker", "--drain")
    assert mind.asked == []
    assert videomind("retry", 1)[:2] == (0, "1 queued again\n")
    videomind("worker", "--drain")
    assert mind.asked == ["a"]
    assert videomind("cancel")[0] == videomind("retry")[0] == 2


@pytest.mark.parametrize(
    "command", [("status", 99), ("cancel", 99), ("retry", 99), ("cancel", "--analysis", 99), ("retry", 1, 99)]
)
def test_an_id_that_nothing_has_is_named_and_nothing_done(
    videomind: Callable, store: Store, video: Path, command: tuple
):
    videomind("submit", video, "-q", "a")
    code, out, err = videomind(*command)
    assert (code, out) == (3, "")
    assert re.search(r"there is no (submission|analysis) 99", err)
    assert [row.state for row in store.queues.arrivals()] == ["queued"]


def test_what_cancel_and_retry_did_is_told_to_machines_too(videomind: Callable, store: Store, video: Path):
    videomind("submit", video, "-q", "a")
    assert _lines(videomind("retry", 1, "--json")[1]) == [{"queued_again": 0}]
    assert _lines(videomind("cancel", 1, "--json")[1]) == [{"submissions": [1]}]
    assert _lines(videomind("retry", 1, "--json")[1]) == [{"queued_again": 1}]


def test_watching_ends_when_nothing_waits_or_runs(videomind: Callable, store: Store, mind, video: Path):
    videomind("submit", video, "-q", "a")
    videomind("cancel", 1)
    code, out, _ = videomind("status", 1, "--watch", "--json")
    assert (code, [line["state"] for line in _lines(out)]) == (0, ["cancelled"])
    nothing = "ingest: 0 waiting, 0 running; analyse: 0 waiting, 0 running\n"
    assert videomind("status", "--watch")[:2] == videomind("status")[:2] == (0, nothing)


def test_all_that_failed_can_be_tried_again(videomind: Callable, store: Store, mind, tmp_path: Path, encode):
    videomind("submit", tmp_path / "late.mp4", "-q", "a")
    videomind("worker", "--drain")
    encode(tmp_path / "late.mp4")
    assert videomind("retry", "--failed")[1] == "1 queued again\n"
    videomind("worker", "--drain")
    assert mind.asked == ["a"]


def test_analyses_are_found_by_their_words(videomind: Callable, store: Store, mind, video: Path):
    videomind("submit", video, "-q", "Who comes in?", "-q", "Why?")
    videomind("worker", "--drain")
    code, out, _ = videomind("search", "comes")
    assert code == 0
    assert "Who comes in?" in out
    assert "Why?" not in out
    assert len(_lines(videomind("search", "through", "door", "--json")[1])) == 2
    assert videomind("search", "elephant")[1] == ""


def test_a_file_whose_name_is_no_text_is_found_again(
    videomind: Callable, store: Store, mind, encode: Callable, tmp_path: Path
):
    odd = tmp_path / os.fsdecode(b"caf\xe9 100%?.mp4")
    encode(tmp_path / "plain.mp4").rename(odd)
    videomind("submit", odd, "-q", "a")
    videomind("worker", "--drain")
    assert mind.opened == [odd]


def test_subtitles_reach_the_question(videomind: Callable, store: Store, video: Path, tmp_path: Path):
    spoken = tmp_path / "door.srt"
    spoken.write_text("1\n00:00:00,500 --> 00:00:01,500\nCome in!\n")
    assert videomind("submit", video, "-q", "a", "--subtitles", spoken)[0] == 0
    request = store.submissions.claim_one(1, "me", timedelta(minutes=1)).submission.requests[0]
    assert request.subtitles == (Cue(Span(0.5, 1.5), "Come in!"),)
    spoken.write_text("nothing is said")
    assert videomind("submit", video, "-q", "a", "--subtitles", spoken)[0] == 3


def test_subtitles_belong_to_one_video(videomind: Callable, store: Store, video: Path, tmp_path: Path):
    assert videomind("submit", video, video, "-q", "a", "--subtitles", tmp_path / "door.srt")[0] == 2
    assert store.queues.arrivals() == []


def test_annotations_bring_their_videos_and_are_answered_once(
    videomind: Callable, store: Store, mind, video: Path, tmp_path: Path
):
    truth = tmp_path / "truth.jsonl"
    rows = ({"video": str(video), "question": text, "spans": [[1.0, 1.6]]} for text in "ab")
    truth.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = videomind("submit", "--annotations", truth, "--json")
    assert (code, [len(line["request_ids"]) for line in _lines(out)]) == (0, [2])
    videomind("worker", "--drain")
    code, out, _ = videomind("run", "--annotations", truth, "--checkpoint", "fake")
    assert (code, mind.asked) == (0, ["a", "b"])
    assert "moments  0:01.0 - 0:01.6  0:01.0 - 0:01.6  1.00\n" in out
    assert videomind("submit", video, "--annotations", truth)[0] == 2
    assert videomind("submit", "-q", "a")[0] == 2


def test_what_a_url_keeps_secret_is_stored_and_not_shown(
    videomind: Callable, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "400")
    secret = "https://anna:hush@cams.invalid/gate.mp4?X-Amz-Signature=f00d"
    shown = "https://anna:***@cams.invalid/gate.mp4?X-Amz-Signature=***"
    assert videomind("submit", secret, "-q", "a")[1] == f"submission 1: {shown}\n"
    assert _lines(videomind("submit", secret, "-q", "a", "--json")[1])[0]["uri"] == shown
    intake = store.submissions.claim_one(1, "me", timedelta(minutes=1))
    assert intake.submission.uri == secret
    store.submissions.fail(intake, InvalidSource(f"{secret} is odd"), 1)
    for form in ((), ("--json",)):
        printed = videomind("status", *form)[1]
        assert "cams.invalid" in printed
        assert "hush" not in printed
        assert "f00d" not in printed
