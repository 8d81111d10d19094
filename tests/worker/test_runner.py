import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import SecretStr

from vm.errors import VideoError
from worker import holder, runner, service
from worker.jobs import Request, Submission
from worker.settings import Settings, using
from worker.standing import Standing


def _silent(stage: str, fraction: float) -> None:
    """Nobody watches."""


def test_questions_are_answered_in_the_order_asked(store, mind, video: Path):
    outcomes = runner.answer(video, [Request("b"), Request("a")], _silent)
    assert [outcome.result.question for outcome in outcomes] == ["b", "a"]


def test_what_was_answered_before_is_not_asked_again(store, mind, video: Path):
    first = runner.answer(video, [Request("a")], _silent)
    assert runner.answer(video, [Request("a"), Request("b")], _silent)[0] == first[0]
    assert mind.asked == ["a", "b"]


def test_a_question_asked_twice_is_answered_once(store, mind, video: Path):
    assert len({outcome.analysis_id for outcome in runner.answer(video, [Request("a")] * 2, _silent)}) == 1
    assert mind.asked == ["a"]


def test_what_another_process_works_on_is_left_to_it(store, mind, video: Path, claimed):
    question = claimed.request
    assert runner.answer(video, [question], _silent)[0].state == "running"
    assert mind.asked == []


def test_the_stages_are_reported_while_they_run(store, mind, video: Path):
    told = []
    runner.answer(video, [Request("a")], lambda *stage: told.append(stage))
    assert told == [("reading", 0.0), ("grounder", 0.5)]


def test_a_missing_video_is_an_error_and_kept_as_one(store, mind, tmp_path: Path):
    with pytest.raises(VideoError, match=r"none\.mp4") as raised:
        runner.answer(tmp_path / "none.mp4", [Request("a")], _silent)
    assert raised.value.code == "invalid_source"
    assert [arrival.state for arrival in store.queues.arrivals()] == ["failed"]


def test_a_new_database_is_set_up_before_the_model_is_loaded(mind, tmp_path: Path):
    with using(Settings(database_url=f"sqlite:///{tmp_path}/new/videomind.db")):
        runner.prepare()
    assert (tmp_path / "new" / "videomind.db").exists()


def test_an_embedded_queue_is_worked_through_the_urgent_first(
    store, mind, video: Path, encode, tmp_path: Path
):
    other = encode(tmp_path / "other.mp4", seed=1)
    for path, asked, priority in ((video, "later", 4), (other, "now", 6)):
        service.add(store, Submission(asked, str(path), (Request(asked),), priority=priority))
    service.add(store, Submission("bad", str(tmp_path / "none.mp4"), (Request("never"),), priority=9))
    runner.drain(threading.Event(), forever=False)
    assert mind.asked == ["now", "later"]
    assert {arrival.state for arrival in store.queues.arrivals()} == {"succeeded", "failed"}


def test_what_is_asked_of_another_checkpoint_keeps_nobody_waiting(store, mind, registered):
    registered("a", fingerprint="another")
    runner.drain(threading.Event(), forever=False)
    assert mind.asked == []


@pytest.fixture
def receiver() -> Iterator[HTTPServer]:
    """A server that hears everything, and notes what it was told in `told`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    told: list[dict] = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.told = told
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_who_waits_to_be_told_is_told_before_a_drain_ends(
    store, mind, settings: Settings, video: Path, receiver: HTTPServer
):
    url = f"http://127.0.0.1:{receiver.server_port}"
    store.standing.add(Standing("Who?", "depot", webhook_url=f"{url}/hit"))
    service.add(store, Submission("one", str(video), (), "depot", callback_url=f"{url}/done"))
    here = {"allowed_networks": (ip_network("127.0.0.0/8"),), "webhook_secret": SecretStr("a secret of ours")}
    with using(settings.changed(**here)):
        runner.drain(threading.Event(), forever=False)
    done, hit = sorted(receiver.told, key=lambda told: "submission_id" not in told)
    assert (done["key"], done["state"]) == ("one", "succeeded")
    assert hit["standing_question"]["question"] == "Who?"


def test_draining_stops_between_two_videos_when_told_to(store, mind, video: Path, found):
    stop = threading.Event()

    def answer() -> object:
        stop.set()
        return found("a")

    mind.answers["a"] = answer
    service.add(store, Submission("one", str(video), (Request("a"),)))
    runner.drain(stop, forever=True)
    assert mind.asked == ["a"]


def test_what_a_dead_process_of_this_machine_left_behind_is_free_at_once(store, mind, video: Path, claimed):
    with store.engine.begin() as connection:
        dead = holder.prefix(2**22 + os.getpid()) + "dead"  # beyond the numbers of processes
        connection.exec_driver_sql(f"UPDATE analyses SET lease_holder = '{dead}'")
    assert runner.answer(video, [claimed.request], _silent)[0].state == "succeeded"
