"""One fault at a time: what a worker, a message or a schedule may do, and that it costs nothing but time."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests import servers
from tests.integration.farm import Farm
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.store import Store

WRITTEN = (
    "SELECT analyses.*, moments.id FROM analyses JOIN moments ON analysis_id = analyses.id ORDER BY rank"
)
LONG = "600"  # seconds; no test waits for that
SOON = 20  # seconds that a task may take which is to be ended by its limit
SLOTS = 60  # times that something is to be started
SENT = "Sending due task sweep"


def test_a_message_that_a_stopped_worker_took_with_it_is_sent_again_by_the_sweep(farm: Farm):
    farm.submit(farm.film("a"), "Who?", messages=0)
    farm.start("fetch")
    farm.ready("fetch")
    worker = psutil.Process(farm.processes["fetch"].pid)
    while True:
        worker.suspend()
        farm.wake("fetch")
        if not farm.waiting("fetch"):
            break  # handed to a worker that will never read it
        farm.broker.client().delete("fetch")  # it was not waiting just then
        worker.resume()
        time.sleep(0.2)
    worker.kill()
    farm.processes["fetch"].join()
    farm.revive()
    farm.ready("fetch", starts=2)
    assert farm.states("submissions") == {"queued": 1}
    assert not farm.waiting("fetch", "unacked"), "the broker knows of nothing any more"
    farm.start("ingest", "analyse", "beat")
    farm.until("SELECT state, attempts FROM analyses", ("succeeded", 1))
    farm.assert_done_once(1)


def test_what_a_worker_was_at_that_was_stopped_and_killed_does_not_wait_for_its_lease(farm: Farm):
    farm.variables["VIDEOMIND_LEASE_SECONDS"] = LONG
    farm.submit(farm.film("a"), "wait")
    farm.start("fetch", "analyse")
    farm.until("SELECT state, stage FROM analyses", ("running", "grounder"))
    both = [farm.child("analyse"), psutil.Process(farm.processes["analyse"].pid)]
    for process in both:
        process.suspend()
    for process in both:
        process.kill()
    farm.gate.touch()
    farm.processes["analyse"].join()
    farm.revive()
    farm.start("ingest", "beat")
    farm.until("SELECT state, attempts, losses FROM analyses", ("succeeded", 2, 1))
    farm.assert_done_once(1)


def test_who_was_stopped_for_longer_than_its_lease_commits_nothing(farm: Farm):
    farm.variables["VIDEOMIND_LEASE_SECONDS"] = "2"
    farm.submit(farm.film("a"), "late")
    farm.start("fetch", "analyse-1")
    farm.wait(lambda: "all is told" in farm.told("analyse-1"))
    stopped = farm.child("analyse-1")
    stopped.suspend()
    farm.gate.touch()
    farm.start("ingest", "analyse-2", "beat")
    farm.until("SELECT state, attempts, fence FROM analyses", ("succeeded", 2, 2))
    before = farm.rows(WRITTEN)
    stopped.resume()
    farm.wait(lambda: "the result is dropped" in farm.told("analyse-1"))
    assert farm.rows(WRITTEN) == before
    farm.assert_done_once(1)


def test_a_message_that_is_delivered_again_while_its_job_goes_on_does_nothing(farm: Farm):
    farm.variables["FAKE_VISIBILITY"] = "1"
    farm.submit(farm.film("a"), "wait")
    farm.start("fetch", "analyse-1", "analyse-2")

    def redelivered() -> bool:
        told = farm.told("analyse-1") + farm.told("analyse-2")
        return max(Counter(re.findall(r"analyse\[(.+?)\] received", told)).values(), default=0) > 1

    farm.wait(redelivered)
    farm.gate.touch()
    farm.until("SELECT state, attempts, fence FROM analyses", ("succeeded", 1, 1))
    farm.assert_done_once(1)


@pytest.mark.parametrize(
    ("deed", "ended"), [("kill", ("failed", "lost_worker", 3)), ("crash", ("failed", "quarantined", 2))]
)
def test_what_kills_its_worker_every_time_is_given_up_and_the_next_job_runs(farm: Farm, deed, ended):
    farm.variables |= {"FAKE_START": "spawn", "VIDEOMIND_MAX_ATTEMPTS": "3"}
    farm.submit(farm.film("a"), deed)
    farm.start("fetch")
    farm.until("SELECT state FROM analyses", ("queued",))
    farm.submit(farm.film("b"), "Who?")
    farm.start("analyse")
    farm.wait(lambda: farm.rows("SELECT id FROM analyses WHERE attempts = 3 OR state = 'failed'"))
    farm.start("ingest", "beat")
    farm.until("SELECT state, error_code, attempts FROM analyses ORDER BY id", ended, ("succeeded", None, 1))


def test_told_to_end_a_worker_finishes_what_it_is_at_and_leaves_the_rest(farm: Farm):
    for name, question in (("a", "wait"), ("b", "Who?"), ("c", "Who?")):
        farm.submit(farm.film(name), question)
    farm.start("fetch", "analyse")
    farm.until("SELECT state FROM analyses ORDER BY id", ("running",), ("queued",), ("queued",))
    ending = farm.processes.pop("analyse")
    ending.terminate()
    farm.wait(lambda: "Warm shutdown" in farm.told("analyse"))
    farm.gate.touch()
    ending.join(servers.START_SECONDS)
    assert ending.exitcode == 0
    assert farm.rows("SELECT state FROM analyses ORDER BY id") == [("succeeded",), ("queued",), ("queued",)]
    farm.start("analyse")  # and no beat: the messages are still there
    farm.until("SELECT state, max(attempts), count(*) FROM analyses GROUP BY state", ("succeeded", 1, 3))


def test_what_hangs_in_c_is_killed_at_its_limit_with_its_decoders(farm: Farm, clip: Path):
    farm.variables |= {"FAKE_READS": "yes", "VIDEOMIND_MAX_ATTEMPTS": "1"}
    farm.variables["FAKE_LIMIT"] = str(SOON)
    farm.submit(clip, "Who?")
    farm.start("fetch", "analyse")
    farm.until("SELECT state FROM analyses", ("succeeded",))
    helpers = farm.child("analyse").children(recursive=True)
    farm.submit(clip, "hang")
    farm.wait(lambda: "hanging" in farm.told("analyse"))
    helpers += farm.child("analyse").children(recursive=True)
    assert helpers, "there are decoders"
    farm.wait(lambda: f"Hard time limit ({SOON}s) exceeded" in farm.told("analyse"))
    farm.wait(lambda: not any(map(_lives, helpers)))
    farm.start("ingest", "beat")
    farm.until("SELECT error_code FROM analyses WHERE state = 'failed'", ("lost_worker",))


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_two_beats_do_nothing_twice(farm: Farm):
    for number in range(20):
        farm.submit(farm.film(str(number)), "Who?", messages=0)
    for number in range(SLOTS):
        farm.store.schedules.add(Schedule(f"{number}", "0 0 1 1 *", Rule(), Limits()))
    farm.rows("UPDATE schedules SET last_slot = last_slot - interval '1 year' RETURNING id")
    farm.start("ingest-1", "ingest-2", "fetch-1", "fetch-2", "analyse", "beat-1", "beat-2")
    farm.until("SELECT state, max(fence), count(*) FROM analyses GROUP BY state", ("succeeded", 1, 20))
    farm.until("SELECT state, max(fence), count(*) FROM submissions GROUP BY state", ("succeeded", 1, 20))
    runs = "SELECT count(*), count(DISTINCT schedule_id) FROM reindex_runs"
    farm.until(runs, (SLOTS, SLOTS))
    for beat in ("beat-1", "beat-2"):
        sent = farm.told(beat).count(SENT)
        farm.wait(lambda beat=beat, sent=sent: farm.told(beat).count(SENT) > sent)
    farm.wait(lambda: not farm.waiting("sweep", "unacked"))
    assert farm.rows(runs) == [(SLOTS, SLOTS)]
    farm.assert_done_once(20)


def test_a_message_that_is_no_json_costs_a_restart_and_no_job(farm: Farm):
    farm.variables["FAKE_START"], farm.keeps = "spawn", True
    farm.start("ingest", "fetch", "analyse", "beat")
    before = {name: farm.child(name).pid for name in ("ingest", "fetch", "analyse")}
    for queue in before:
        farm.broker.client().lpush(queue, "no JSON at all")
    farm.submit(farm.film("a"), "Who?")
    farm.until("SELECT state FROM analyses", ("succeeded",))
    farm.wait(lambda: all(farm.child(name).pid != pid for name, pid in before.items()))
    farm.assert_done_once(1)


WRITING = """
import sys
from worker.jobs import Request, Submission
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.store import Store

url, me = sys.argv[1:]
with Store(url) as store:
    for n in range(100):
        store.submissions.add(Submission(f"{me}: {n}", "file:///a.mp4", (Request("Who?"),)))
"""


def test_four_who_write_to_sqlite_a_hundred_times_wait_for_each_other(sqlite_url: str):
    servers.together(WRITING, sqlite_url, processes=4)
    with Store(sqlite_url) as store:
        assert store.queues.depths()["ingest"].waiting == 400
