import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker import cli
from worker.store import Store


@pytest.fixture
def videomind(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, url: str) -> Iterator[Callable]:
    """Runs the command in this process, on the test's database; gives its exit code, stdout and stderr."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["videomind", command, "--database", url, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_what_is_submitted_is_answered_by_an_embedded_worker(
    videomind: Callable, store: Store, mind, video: Path
):
    code, out, _ = videomind("submit", video, "-q", "a", "-q", "b", "--priority", 7)
    assert (code, out) == (0, f"submission 1: {video}\n")
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
    assert [line["uri"] for line in _lines(out)] == [str(tmp_path / "a.mp4"), "https://cams.example/b.mp4"]
    assert all(line["request_ids"] for line in _lines(out))


@pytest.mark.parametrize(
    "arguments",
    [
        ("-q", "a", "--source", "gate"),
        ("-q", "a", "--recorded-at", "yesterday"),
        ("-q", "a", "--recorded-at", "2026-03-01T08:00:00"),
        ("-q", "a", "--priority", "10"),
        (),
    ],
)
def test_wrong_usage_ends_with_2(videomind: Callable, store: Store, video: Path, arguments: tuple):
    assert videomind("submit", video, *arguments)[0] == 2
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
    assert videomind("worker", "--only", "nosuch")[0] == 2
    assert videomind("cancel")[0] == videomind("retry")[0] == 2


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


def test_health_is_good_with_tables_and_bad_without(
    videomind: Callable, store: Store, url: str, monkeypatch: pytest.MonkeyPatch
):
    code, out, _ = videomind("health")
    assert code == 0
    assert out.startswith("ok  tables: version 0002")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    code, out, err = videomind("health", "--json")
    assert code == 3
    assert [line["well"] for line in _lines(out)] == [False]
    assert "not well: tables" in err
