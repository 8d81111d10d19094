"""An archive that is asked anew by schedule, while new videos come and workers die."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import psutil
from sqlalchemy import text

from tests.integration.farm import Farm, watched
from tests.integration.made import FACTS, result
from worker.reindexing import Limits, Rule
from worker.scheduling import Schedule
from worker.sources.local import identify
from worker.sources.rules import SourceRules
from worker.store import Checked, Store

OLD, NEW = "o" * 64, "n" * 64
VIDEOS, LIVE, KILLS = 60, 12, 5
WORKERS = ("analyse-1", "analyse-2")
QUESTIONS = ("Who comes in?", "Who goes out?")
RENEWED = VIDEOS * len(QUESTIONS)
LEASE = timedelta(minutes=5)
# An answer takes long enough for whoever is killed to be in the middle of one.
SETTINGS = {
    "FAKE_FINGERPRINT": NEW,
    "FAKE_SECONDS": "0.2",
    "VIDEOMIND_LEASE_SECONDS": "4",
    "VIDEOMIND_MAX_ATTEMPTS": "20",
}


@dataclass
class Night:
    """What goes on while the archive is renewed; all of it is over long before that is."""

    farm: Farm
    kills: int = 0
    come: int = 0

    def goes_on(self) -> bool:
        """Has a new video come, or a worker die, once so much has been renewed. True when all is done."""
        renewed = "SELECT count(*) FROM analyses WHERE priority < 5 AND state = 'succeeded'"
        share = self.farm.rows(renewed)[0][0] / RENEWED
        if self.come < LIVE and share >= self.come / LIVE / 2:
            self.farm.submit(self.farm.film(f"live {self.come}"), "Who waits?", messages=0)
            self.come += 1
        if self.kills < KILLS and share >= self.kills / KILLS / 2:
            self.kills += self._kill()
        return self.come == LIVE and self.kills == KILLS and _is_done(self.farm.store)

    def _kill(self) -> bool:
        """Takes away a process that answers. True where what it still holds tells that it was at it."""
        for name, pid in self.farm.holders("analyses")[:1]:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                process.kill()
                process.wait()
                held = "SELECT id FROM analyses WHERE lease_holder = :name AND state = 'running'"
                return bool(self.farm.rows(held, name=name))
        return False


def test_an_archive_is_renewed_by_schedule_behind_live_work_and_nothing_is_lost(
    farm: Farm, tell: Callable[[str], None]
):
    farm.variables, farm.keeps = SETTINGS, True
    _fill(farm)
    _schedule(farm.store)
    night, began = Night(farm), time.monotonic()
    with watched(farm.url) as onlooker:
        farm.start("ingest", "fetch", *WORKERS, "beat-1", "beat-2")
        farm.wait(night.goes_on)
        seconds, seen = time.monotonic() - began, onlooker()
    states = Counter(outcome.state for outcome in farm.store.queues.standings(most=10_000))
    behind = _behind(farm)
    runs = [(run.id, run.state, dict(run.items)) for run in farm.store.reindex.runs()]
    tell(
        f"{VIDEOS} videos renewed, {LIVE} new ones, {night.kills} kills, {_lost(farm)} tries lost, "
        f"{seconds:.0f} s; runs {runs}; an onlooker looked {seen['looks']} times; re-indexed analyses that "
        f"ended before waiting live ones began: {behind}"
    )
    assert (seen["looks"] > 0, seen["half"]) == (True, [])
    assert states == {"succeeded": 2 * RENEWED + LIVE}
    assert _current(farm) == RENEWED + LIVE
    assert _lost(farm) >= KILLS
    assert max(behind) <= len(WORKERS)
    assert [run for run in runs if run[2]] == [(1, "finished", {"switched": RENEWED})]


def _fill(farm: Farm) -> None:
    """An archive that an older checkpoint has answered."""
    store = farm.store
    for number in range(VIDEOS):
        path = farm.film(str(number))
        submission = farm.submit(path, *QUESTIONS, messages=0)
        intake = store.submissions.claim_one(submission, "filler", LEASE)
        assert intake is not None
        _, sha256, size = identify(str(path), SourceRules(roots=None))
        store.intakes.register(intake, Checked(sha256, size, FACTS), OLD)
    while claims := store.analyses.claim("filler", OLD, LEASE, 3):
        for claim in claims:
            store.analyses.finish(claim, result(claim.request.question))


def _schedule(store: Store) -> None:
    """One that is due now, and again in the next minute."""
    store.schedules.add(Schedule("nightly", "* * * * *", Rule(), Limits()))
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE schedules SET last_slot = '2026-01-01 00:00:00+00:00'"))


def _is_done(store: Store) -> bool:
    idle = not any(depth.waiting or depth.running for depth in store.queues.depths().values())
    runs = store.reindex.runs()
    return idle and bool(runs) and all(run.state == "finished" for run in runs)


def _current(farm: Farm) -> int:
    return farm.rows("SELECT count(*) FROM analyses WHERE current AND fingerprint = :new", new=NEW)[0][0]


def _lost(farm: Farm) -> int:
    """Tries that a kill has ended."""
    return farm.rows("SELECT sum(losses) FROM analyses")[0][0]


def _behind(farm: Farm) -> list[int]:
    """For each live analysis whose worker was not lost, how many of the background ended between its coming
    and its beginning: each worker may end what it is at."""
    query = (
        "SELECT (SELECT count(*) FROM analyses AS other WHERE other.priority < 5 "
        "AND other.finished_at > live.submitted_at AND other.finished_at < live.started_at) "
        "FROM analyses AS live WHERE live.question = 'Who waits?' AND live.losses = 0"
    )
    return [count for (count,) in farm.rows(query)]
