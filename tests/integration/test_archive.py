"""An archive that is asked anew by schedule, while new videos come and workers die."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from tests import servers
from tests.integration.test_faults import PATIENCE, Farm, _running
from tests.worker.archive_example import FACTS
from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step, Window
from worker import schema
from worker.jobs import Claim, Request, Submission
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.sources.local import identify
from worker.sources.rules import SourceRules
from worker.store import Checked, Store

OLD, NEW = "o" * 64, "n" * 64
VIDEOS, LIVE, KILLS = 60, 12, 5
QUESTIONS = (Request("Who comes in?"), Request("Who goes out?"))
LEASE = timedelta(minutes=5)
MIXED = text(
    "SELECT video_id FROM answer_view WHERE video_id <= :videos GROUP BY video_id "
    "HAVING count(DISTINCT fingerprint) > 1 OR count(*) <> :questions"
)


def _result(claim: Claim) -> Result:
    found = (Candidate(Span(1, 3), 0.8, False, 0.8, 0.1, 0.67),)
    return Result(
        question=claim.request.question,
        mode="auto",
        options=(),
        plan=Plan((Step("grounder", claim.request.question),)),
        query=claim.request.question,
        candidates=found,
        moments=rank_moments(found, claim.request.question),
        answer=Answer("nobody", None, Span(1, 3)),
        video=replace(FACTS, duration=60.0),
        fingerprint=claim.fingerprint,
        warnings=(),
        seconds={"total": 0.05},
        windows=(Window(Span(0, 60), 120, 0.8),),
    )


def _fill(store: Store, folder: Path) -> None:
    """An archive that an older checkpoint has answered."""
    for number in range(VIDEOS):
        path = folder / f"{number}.mp4"
        path.write_text(f"video {number}")
        accepted = store.submissions.add(Submission(f"old {number}", str(path), QUESTIONS))
        intake = store.submissions.claim_one(accepted.submission_id, "filler", LEASE)
        assert intake is not None
        _, sha256, size = identify(str(path), SourceRules(roots=None))
        store.intakes.register(intake, Checked(sha256, size, replace(FACTS, duration=60.0)), OLD)
    while claims := store.analyses.claim("filler", OLD, LEASE, 3):
        for claim in claims:
            store.analyses.finish(claim, _result(claim))


class _Reader(threading.Thread):
    """Somebody who looks all the time, and remembers what he should not have seen."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.store, self.stop, self.looks = Store(url), threading.Event(), 0
        self.seen: list[int] = []

    def run(self) -> None:
        while not self.stop.is_set():
            with self.store.engine.connect() as connection:
                self.seen += connection.scalars(MIXED, {"videos": VIDEOS, "questions": len(QUESTIONS)})
            self.looks += 1
            time.sleep(0.02)


def _schedule(store: Store) -> None:
    """One that is due now, and again in the next minute."""
    store.schedules.add(Schedule("nightly", "* * * * *", Rule(), Limits()))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE schedules SET last_slot = '2026-01-01 00:00:00+00:00'"))


def _kill(farm: Farm) -> bool:
    """Takes the child that answers away."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(farm.processes["analyse-1"].pid).children()
        for child in children:
            child.kill()
        return bool(children)
    return False


def test_an_archive_is_renewed_by_schedule_behind_live_work_and_nothing_is_lost(
    postgresql: servers.PostgreSQL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDEOMIND_FAKE_FINGERPRINT", NEW)
    rng = random.Random(7)
    url = postgresql.url(postgresql.create())
    schema.upgrade(url)
    with Store(url) as store:
        _fill(store, tmp_path)
        _schedule(store)
        reader = _Reader(url)
        reader.start()
        began = time.monotonic()
        with servers.redis_server() as broker, _running(url, broker, tmp_path, beats=2) as farm:
            kills = submitted = 0
            while submitted < LIVE or kills < KILLS or not _is_done(store):
                assert time.monotonic() - began < PATIENCE, [run.items for run in store.reindex.runs()]
                farm.revive()
                if submitted < LIVE:
                    _submit(store, tmp_path, submitted)
                    submitted += 1
                if kills < KILLS and store.reindex.is_running():
                    kills += _kill(farm)
                time.sleep(rng.uniform(0.1, 0.6))
        seconds = time.monotonic() - began
        reader.stop.set()
        reader.join()
        states = Counter(outcome.state for outcome in store.queues.standings(most=10_000))
        behind = _behind(store)
        runs = [(run.id, run.state, dict(run.items)) for run in store.reindex.runs()]
        print(
            f"\n{VIDEOS} videos renewed, {LIVE} new ones, {kills} kills, {seconds:.0f} s; runs {runs}; "
            f"{reader.looks} looks; re-indexed analyses that ended before waiting live ones began: {behind}"
        )
        assert reader.seen == []
        assert states == {"succeeded": 2 * VIDEOS * len(QUESTIONS) + LIVE}
        assert _current(store) == VIDEOS * len(QUESTIONS) + LIVE
        assert max(behind) <= 1
        assert [run for run in runs if run[2]] == [(1, "finished", {"switched": VIDEOS * len(QUESTIONS)})]


def _submit(store: Store, folder: Path, number: int) -> None:
    path = folder / f"live {number}.mp4"
    path.write_text(f"live video {number}")
    store.submissions.add(Submission(f"live {number}", str(path), (Request("Who waits?"),)))


def _is_done(store: Store) -> bool:
    idle = not any(depth.waiting or depth.running for depth in store.queues.depths().values())
    runs = store.reindex.runs()
    return idle and bool(runs) and all(run.state == "finished" for run in runs)


def _current(store: Store) -> int:
    with store.engine.connect() as connection:
        query = "SELECT count(*) FROM analyses WHERE current AND fingerprint = :new"
        return int(connection.scalar(text(query), {"new": NEW}) or 0)


def _behind(store: Store) -> list[int]:
    """For each live analysis whose worker was not lost, how many of the background ended between its coming
    and its beginning."""
    query = (
        "SELECT (SELECT count(*) FROM analyses AS other WHERE other.priority < 5 "
        "AND other.finished_at > live.submitted_at AND other.finished_at < live.started_at) "
        "FROM analyses AS live WHERE live.question = 'Who waits?' AND live.losses = 0"
    )
    with store.engine.connect() as connection:
        return [int(count) for count in connection.scalars(text(query))]
