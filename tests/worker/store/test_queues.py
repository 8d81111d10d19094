from datetime import timedelta

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from worker.errors import InvalidMessage, SourceUnavailable
from worker.jobs import Progress, Request, Submission
from worker.store import Store
from worker.store.queues import Arrival, Depth


@pytest.fixture
def added(store: Store):
    def add(*keys: str) -> list[int]:
        found = [Submission(key, f"file:///{key}.mp4", (Request("Who?"),)) for key in keys]
        return [store.submissions.add(one).submission_id for one in found]

    return add


def test_empty_queues_are_empty(store: Store):
    assert store.queues.depths() == {"ingest": Depth(0, 0, 0.0), "analyse": Depth(0, 0, 0.0)}
    assert store.queues.ready(ATTEMPTS) == (0, 0)
    assert store.queues.failures() == {}
    assert store.queues.standings() == store.queues.arrivals() == []


def test_depths_tell_what_waits_what_runs_and_for_how_long_the_oldest_has_waited(
    store: Store, added, registered, claim, sql
):
    registered("a", "b", sha256="1")
    claim()
    registered("c", sha256="2")
    registered("d", sha256="3")
    added("x", "y", "z")
    store.submissions.claim("registrar", MINUTES, ATTEMPTS)
    with store.engine.begin() as connection:
        hour_ago = "now() - INTERVAL '1 hour'"
        if connection.dialect.name == "sqlite":
            hour_ago = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 hour')"
        connection.exec_driver_sql(f"UPDATE analyses SET submitted_at = {hour_ago} WHERE question = 'c'")
    depths = store.queues.depths()
    assert (depths["analyse"].waiting, depths["analyse"].running) == (2, 2)
    assert (depths["ingest"].waiting, depths["ingest"].running) == (2, 1)
    assert 3600 <= depths["analyse"].oldest < 3700
    assert 0 < depths["ingest"].oldest < 100


def test_only_what_a_worker_could_take_just_now_is_ready(store: Store, added, registered, claim):
    registered("a", "b", sha256="1")
    registered("a", sha256="2")
    registered("a", sha256="3")
    assert store.queues.ready(ATTEMPTS) == (0, 3)
    claim()
    store.analyses.fail(claim()[0], SourceUnavailable("wait"), ATTEMPTS)
    claim(length=-MINUTES)
    added("x", "y")
    assert store.queues.ready(ATTEMPTS) == (2, 1)
    assert store.queues.ready(1) == (2, 0)


def test_standings_tell_how_far_each_analysis_is_the_latest_first(store: Store, registered, claim):
    first, second = registered("a", "b")
    one, _ = claim()
    store.analyses.report(one.lease, Progress("grounder", 0.25, 60.0))
    latest, oldest = store.queues.standings()
    assert (latest.analysis_id, latest.question, latest.progress) == (second, "b", 0.0)
    assert (oldest.analysis_id, oldest.stage, oldest.progress) == (first, "grounder", 0.25)
    assert timedelta(seconds=50) < oldest.eta - oldest.started_at < timedelta(minutes=10)
    assert latest.eta is None
    store.analyses.report(one.lease, Progress("grounder", 0.25, None))
    assert store.queues.standings()[1].eta is None
    assert oldest.uri == "file:///videos/door.mp4"
    assert (oldest.state, oldest.attempts) == ("running", 1)
    assert oldest.started_at - oldest.submitted_at < timedelta(minutes=10)
    assert [one.analysis_id for one in store.queues.standings(most=1)] == [second]


def test_standings_of_some_states_or_submissions_only(store: Store, registered, claim):
    first = registered("a", key="one")[0]
    store.analyses.fail(claim()[0], NoFrames("none"), ATTEMPTS)
    second = registered("a", "b", key="two", sha256="2")
    found = {
        "failed": store.queues.standings(("failed",)),
        "open": store.queues.standings(("queued", "running")),
        "second": store.queues.standings(submission_ids=[2]),
        "neither": store.queues.standings(("failed",), [2]),
    }
    ids = {name: [one.analysis_id for one in standings] for name, standings in found.items()}
    assert ids == {"failed": [first], "open": second[::-1], "second": second[::-1], "neither": []}


def test_arrivals_tell_how_far_each_submission_is_the_latest_first(store: Store, added):
    first, second = added("x", "y")
    intake = store.submissions.claim("registrar", MINUTES, ATTEMPTS)
    store.submissions.fail(intake, NoFrames("none"), ATTEMPTS)
    waiting = Arrival(second, "file:///y.mp4", "queued", 0, None, None)
    failed = Arrival(first, "file:///x.mp4", "failed", 1, "no_frames", "none")
    assert store.queues.arrivals() == [waiting, failed]
    assert store.queues.arrivals(("failed",)) == store.queues.arrivals(submission_ids=[first]) == [failed]
    assert store.queues.arrivals(most=1) == [waiting]


def test_failures_are_counted_by_their_codes(store: Store, registered, claim):
    registered("a", "b")
    for one in claim():
        store.analyses.fail(one, NoFrames("none"), ATTEMPTS)
    store.submissions.reject("bad", {}, InvalidMessage("uri is missing"))
    assert store.queues.failures() == {"no_frames": 2, "invalid_message": 1}
