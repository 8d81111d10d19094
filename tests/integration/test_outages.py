"""What a worker lives through: a wrong clock, a full disk, a database that is away, a change of mind."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests import servers
from tests.integration.farm import Farm, farming, web

ROOM, LARGE = 100_000, 200_000  # bytes
AWAY = 30  # seconds


def test_a_clock_that_is_a_minute_wrong_harms_nothing(farm: Farm):
    farm.variables["VIDEOMIND_LEASE_SECONDS"] = "3"
    farm.submit(farm.film("a"), "wait")
    farm.start("analyse-1", FAKE_CLOCK="-60")  # would set leases that have run out
    farm.start("ingest", "fetch", FAKE_CLOCK="60")
    farm.until("SELECT state FROM analyses", ("running",))
    farm.start("analyse-2", "beat", FAKE_CLOCK="60")  # would take every lease for one that has run out
    farm.submit(farm.film("b"), "Who?", messages=0)
    farm.until("SELECT state FROM analyses ORDER BY id", ("running",), ("succeeded",))
    renewed = "SELECT id FROM analyses WHERE lease_expires_at > started_at + interval '9 seconds'"
    farm.wait(lambda: farm.rows(renewed))
    farm.gate.touch()
    farm.until("SELECT state, attempts FROM analyses ORDER BY id", ("succeeded", 1), ("succeeded", 1))
    wrong = "submitted_at > started_at OR started_at > finished_at OR finished_at > clock_timestamp()"
    assert farm.rows(f"SELECT id FROM analyses WHERE {wrong}") == []
    farm.assert_done_once(2)


def test_a_full_disk_holds_up_only_what_does_not_fit_and_only_until_there_is_room(farm: Farm):
    sizes = {"/small": ROOM // 2, "/large": LARGE}

    def answer(request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(sizes[request.path]))
        request.end_headers()
        request.wfile.write(request.path.encode().ljust(sizes[request.path], b"."))

    with web(answer) as address:
        farm.start("ingest", "fetch", "analyse", "beat")
        fetching = farm.child("fetch")
        fetching.rlimit(psutil.RLIMIT_FSIZE, (ROOM, psutil.RLIM_INFINITY))
        for path in sizes:
            farm.submit(f"{address}{path}", "Who?")
        farm.until(
            "SELECT state, error_code FROM submissions ORDER BY uri DESC",
            ("succeeded", None),
            ("queued", "source_unavailable"),
        )
        assert "Make room" in farm.rows("SELECT error_message FROM submissions WHERE state = 'queued'")[0][0]
        fetching.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        farm.rows("UPDATE submissions SET not_before = NULL RETURNING id")
        farm.until("SELECT state FROM analyses", ("succeeded",), ("succeeded",))
    farm.assert_done_once(2)


def test_a_database_that_is_away_costs_no_work_that_was_done(redis_url, redis_server, tmp_path: Path):
    with servers.postgresql() as server, farming(server.url(server.create()), redis_server, tmp_path) as farm:
        farm.submit(farm.film("a"), "wait")
        farm.submit(farm.film("b"), "Who?")
        farm.start("ingest", "fetch", "analyse", "beat")
        farm.until("SELECT state, stage FROM analyses ORDER BY id", ("running", "grounder"), ("queued", None))
        server.stop()
        gone = time.monotonic()
        for sign in ("a lease could not be renewed", "progress could not be kept"):
            farm.wait(lambda sign=sign: sign in farm.told("analyse"))
        farm.gate.touch()
        farm.wait(lambda: "waits for the database" in farm.told("analyse"))
        time.sleep(max(0.0, gone + AWAY - time.monotonic()))
        server.start()
        farm.until("SELECT state, attempts FROM analyses ORDER BY id", ("succeeded", 1), ("succeeded", 1))
        farm.assert_done_once(2)


def test_what_was_cancelled_while_it_ran_ends_and_can_be_tried_again(farm: Farm):
    submission = farm.submit(farm.film("a"), "wait")
    farm.start("ingest", "fetch", "analyse")
    farm.until("SELECT state, stage FROM analyses", ("running", "grounder"))
    unwanted = {"version": 1, "submissions": [submission]}
    farm.client.send_task("videomind.cancel", kwargs=unwanted, queue="ingest")
    farm.until("SELECT state FROM analyses", ("cancelled",))
    assert farm.rows("SELECT verdict FROM coverage") == [("not_searched",)]
    farm.gate.touch()
    farm.store.submissions.retry([submission])
    farm.store.analyses.retry([1])
    farm.wake("analyse")
    farm.until("SELECT state FROM analyses", ("succeeded",))
    farm.assert_done_once(1)
