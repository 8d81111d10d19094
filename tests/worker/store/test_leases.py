"""Who may work on what, and who may write: one after the other, and all at once."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from tests.servers import together
from tests.worker.store.conftest import ATTEMPTS, MINUTES, read
from vm.errors import NoFrames
from worker.errors import SourceUnavailable
from worker.jobs import Progress
from worker.store import Store

PROCESSES, VIDEOS, QUESTIONS = 4, 16, 6

# Everybody hands in the same submissions, takes in whatever is next, and answers whatever is next.
WORK = f"""
import json, sys
from datetime import timedelta
from vm.result import Plan, Result, VideoFacts
from worker.jobs import Progress, Request, Submission
from worker.store import Checked, Store

facts = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)
requests = tuple(Request(f"question {{n}}") for n in range({QUESTIONS}))
minutes = timedelta(minutes=5)
url, me = sys.argv[1:]


def take_in(store):
    intake = store.submissions.claim(me, minutes, 3)
    if intake is None:
        return []
    sha256 = f"{{intake.submission.key:>064}}"
    assert store.intakes.register(intake, Checked(sha256, 1, facts), "f")
    return [intake.lease.id]


def answer(store):
    claims = store.analyses.claim(me, "f", minutes, 3)
    assert len({{claim.video_id for claim in claims}}) <= 1
    assert len(store.analyses.renew([claim.lease for claim in claims], minutes)) == len(claims)
    for claim in claims:
        assert not store.analyses.report(claim.lease, Progress("grounder", 0.5, 60.0))
        question = claim.request.question
        result = Result(question, "auto", (), Plan(()), None, (), (), None, facts, "f", (), {{}})
        assert store.analyses.finish(claim, result)
    return [claim.analysis_id for claim in claims]


done = {{"taken in": [], "answered": []}}
with Store(url) as store:
    for n in range({VIDEOS}):
        store.submissions.add(Submission(f"video {{n}}", f"file:///{{n}}.mp4", requests))
    working = True
    while working:
        taken, answered = take_in(store), answer(store)
        done["taken in"] += taken
        done["answered"] += [answered] if answered else []
        working = taken or answered
print(json.dumps(done))
"""


def test_processes_at_work_together_do_everything_once(store: Store, url: str, counted):
    printed = [json.loads(text) for text in together(WORK, url, processes=PROCESSES)]
    taken_in = [submission_id for done in printed for submission_id in done["taken in"]]
    answered = [ids for done in printed for ids in done["answered"]]
    assert len(taken_in) == len(set(taken_in)) == VIDEOS
    assert counted("submissions", "videos", "analyses") == [VIDEOS, VIDEOS, VIDEOS * QUESTIONS]
    # All questions on a video go to the same worker.
    assert [len(ids) for ids in answered] == [QUESTIONS] * VIDEOS
    assert max(Counter(chain(*answered)).values()) == 1
    assert counted("analyses WHERE state = 'succeeded' AND fence = 1") == [VIDEOS * QUESTIONS]


def test_threads_that_want_the_same_one_get_it_once(store: Store, registered):
    ids = registered(*map(str, range(4)))
    with ThreadPoolExecutor(4) as pool:
        taken = pool.map(lambda n: store.analyses.claim_these(ids, f"{n}", "f" * 64, MINUTES), range(8))
    assert sorted(claim.analysis_id for claims in taken for claim in claims) == ids


def test_threads_that_want_the_same_submission_get_it_once(store: Store, registered, sql):
    registered("Who?")
    sql("UPDATE submissions SET state = 'queued', video_id = NULL")
    with ThreadPoolExecutor(4) as pool:
        taken = pool.map(lambda n: store.submissions.claim_one(1, f"{n}", MINUTES), range(8))
    assert sum(intake is not None for intake in taken) == 1


def test_a_lapsed_lease_is_taken_over_with_a_higher_fence(registered, claim, lapsed, sql):
    registered("Who?")
    stopped = lapsed()
    (successor,) = claim("successor")
    assert (successor.analysis_id, successor.lease.fence) == (stopped.analysis_id, stopped.lease.fence + 1)
    assert sql("SELECT lease_holder, attempts, losses FROM analyses") == [("successor", 2, 1)]


@pytest.mark.parametrize(
    "write", ["finish", "fail", "fail for now", "cancel", "report", "give back", "renew"]
)
def test_who_was_stopped_for_too_long_changes_nothing_any_more(
    store: Store, registered, claim, lapsed, sql, counted, result, write: str
):
    registered("Who?")
    stopped = lapsed()
    claim("successor")
    before = sql("SELECT * FROM analyses")
    analyses = store.analyses
    attempt = {
        "finish": lambda: analyses.finish(stopped, result),
        "fail": lambda: analyses.fail(stopped, NoFrames("none"), ATTEMPTS),
        "fail for now": lambda: analyses.fail(stopped, SourceUnavailable("no answer"), ATTEMPTS),
        "cancel": lambda: analyses.end_cancelled(stopped),
        "report": lambda: analyses.report(stopped.lease, Progress("late", 1.0, 60.0)),
        "give back": lambda: analyses.give_back([stopped]),
        "renew": lambda: analyses.renew([stopped.lease], MINUTES),
    }
    assert not attempt[write]()
    assert sql("SELECT * FROM analyses") == before
    assert counted("candidates", "moments", "answers", "coverage") == [0, 0, 0, 0]


def test_who_was_stopped_may_go_on_where_nobody_took_over(store: Store, registered, claim, lapsed, result):
    registered("Who?")
    stopped = lapsed()
    assert store.analyses.renew([stopped.lease], MINUTES) == [stopped.lease]
    assert claim() == []
    assert store.analyses.finish(stopped, result)


def test_only_what_is_still_held_is_renewed(store: Store, registered, claim, result):
    registered("a", "b", "c")
    first, second, third = claim()
    store.analyses.finish(second, result)
    store.analyses.give_back([third])
    held = [one.lease for one in (third, second, first)]
    assert store.analyses.renew(held, MINUTES) == [first.lease]


def test_what_is_given_back_counts_as_untried(store: Store, registered, claim, sql):
    registered("a", "b")
    store.analyses.give_back(claim())
    assert (
        sql("SELECT state, attempts, lease_holder, started_at FROM analyses")
        == [("queued", 0, None, None)] * 2
    )
    assert [(one.attempts, one.lease.fence) for one in claim()] == [(1, 2)] * 2


def test_giving_back_does_not_touch_what_has_ended(store: Store, registered, claim, result, sql):
    registered("a")
    store.analyses.finish(claim()[0], result)
    store.analyses.give_back([])
    assert sql("SELECT state FROM analyses") == [("succeeded",)]


def test_each_failure_that_may_pass_waits_longer_and_the_last_one_ends_it(
    store: Store, registered, claim, sql
):
    (analysis_id,) = registered("Who?")
    for delay in (5, 20):
        (one,) = claim()
        before = datetime.now(UTC)
        assert store.analyses.fail(one, SourceUnavailable("no answer"), ATTEMPTS)
        after = datetime.now(UTC)
        waits = read(sql("SELECT not_before FROM analyses")[0][0]) - timedelta(seconds=delay)
        assert before <= waits <= after
        assert claim() == []
        sql("UPDATE analyses SET not_before = NULL")
    assert store.analyses.fail(claim()[0], SourceUnavailable("no answer"), ATTEMPTS)
    outcome = store.analyses.outcomes([analysis_id])[0]
    assert (outcome.state, outcome.error_code) == ("failed", "source_unavailable")


def test_why_the_last_try_failed_can_be_seen_while_it_waits_for_the_next(store: Store, registered, claim):
    registered("Who?")
    store.analyses.fail(claim()[0], SourceUnavailable("no answer"), ATTEMPTS)
    (standing,) = store.queues.standings(("queued",))
    assert (standing.error_code, standing.error_message) == ("source_unavailable", "no answer")


def test_a_failure_that_will_not_pass_ends_it_at_once(store: Store, registered, claim):
    registered("Who?")
    (one,) = claim()
    assert store.analyses.fail(one, NoFrames("door.mp4 has no frames"), ATTEMPTS)
    outcome = store.analyses.outcomes([one.analysis_id])[0]
    told = outcome.state, outcome.error_code, outcome.error_message
    assert told == ("failed", "no_frames", "door.mp4 has no frames")
    assert not store.analyses.fail(one, NoFrames("again"), ATTEMPTS)


def test_what_lost_its_worker_at_every_attempt_is_buried(store: Store, registered, lapsed, claim):
    ids = registered("Who?")
    for _ in range(ATTEMPTS):
        assert store.analyses.bury(ATTEMPTS) == []
        lapsed()
    assert claim() == []
    assert store.analyses.bury(ATTEMPTS) == ids
    outcome = store.analyses.outcomes(ids)[0]
    assert (outcome.state, outcome.error_code) == ("failed", "lost_worker")
    assert "at each of 3 attempts" in outcome.error_message
    assert store.analyses.bury(ATTEMPTS) == []


def test_what_waits_but_was_tried_too_often_is_buried_with_its_own_reason(store: Store, registered, claim):
    ids = registered("Who?")
    store.analyses.fail(claim()[0], SourceUnavailable("no answer"), ATTEMPTS)
    assert store.analyses.bury(1) == ids
    assert store.analyses.outcomes(ids)[0].error_message == "no answer"


def test_what_a_living_worker_is_at_is_not_buried(store: Store, registered, claim):
    registered("Who?")
    claim()
    assert store.analyses.bury(1) == []


def test_what_a_lost_process_worked_on_is_free_at_once(store: Store, registered, claim):
    first = registered("a", sha256="1")
    second = registered("b", sha256="2")
    lost = store.analyses.claim_these(first, "host:7:x", "f" * 64, MINUTES)
    store.analyses.claim_these(second, "host:77:x", "f" * 64, MINUTES)
    assert store.analyses.orphan("host:7:") == [lost[0].video_id]
    assert [one.analysis_id for one in claim()] == first
    assert claim() == []
