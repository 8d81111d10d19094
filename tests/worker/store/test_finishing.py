"""Most analyses end by one statement of their own on PostgreSQL. What it does must be what is done for
others, whatever happens at the same moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from tests.statements import heard
from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from vm.result import Result
from worker.jobs import Claim
from worker.reindexing import Limits, Rule
from worker.standing import Standing
from worker.store import Store, finishing
from worker.store.coverage import BELOW

pytestmark = pytest.mark.parametrize("database", ["postgresql"])

EIGHT = datetime(2026, 3, 1, 8, tzinfo=UTC)
STANDING = Standing("Who?", "depot")
OLD, FINGERPRINT = "o" * 64, "f" * 64
_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_name = '{}' AND column_name <> 'id'"
)
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture
def meanwhile(store: Store, sql) -> Callable[..., bool]:
    """Ends an analysis while somebody else has its video, and has these statements done before they let it
    go."""

    def end(claim: Claim, result: Result, *statements: str) -> bool:
        with ThreadPoolExecutor(1) as elsewhere:
            with store.engine.begin() as connection:
                connection.execute(text("SELECT id FROM videos FOR NO KEY UPDATE"))
                ended = elsewhere.submit(store.analyses.finish, claim, result)
                deadline = time.monotonic() + 30
                while not sql(_WAITING)[0][0]:
                    assert time.monotonic() < deadline
                    assert not ended.done()
                for statement in statements:
                    assert connection.execute(text(statement)).rowcount == 1
            return ended.result(timeout=30)

    return end


@pytest.fixture
def rows(sql) -> Callable[[], dict[str, list[tuple]]]:
    """All that is kept of analyses, but for times and ids that nobody refers to."""

    def read() -> dict[str, list[tuple]]:
        found = {}
        for table in ("analyses", "search_index", *(each.__tablename__ for each in BELOW)):
            names = [name for (name,) in sql(_COLUMNS.format(table)) if not name.endswith("ed_at")]
            found[table] = sorted(sql(f"SELECT {', '.join(names)} FROM {table}"), key=str)
        return found

    return read


def test_it_leaves_the_rows_that_others_leave(store, registered, claim, result, rows, sql, monkeypatch):
    registered("Who comes in?", recorded_at=EIGHT)
    (one,) = claim()
    with heard() as statements:
        assert store.analyses.finish(one, result)
    assert len(statements) == 1
    alone = rows()
    for table in BELOW:
        sql(f"DELETE FROM {table.__tablename__}")
    sql("UPDATE analyses SET state = 'running', current = false, plan = NULL, progress = 0")
    sql("UPDATE search_index SET document = ''")
    monkeypatch.setattr(finishing, "finish_alone", lambda *_: False)
    with heard() as statements:
        assert store.analyses.finish(one, result)
    assert len(statements) > 1
    assert rows() == alone
    assert [len(found) for found in alone.values()] == [1, 1, 2, 2, 1, 2]


def _failed_before(store: Store, registered, claim, result) -> None:
    ids = registered("Who?")
    store.analyses.fail(claim()[0], NoFrames("none"), ATTEMPTS)
    store.analyses.retry(ids)


def _crashed_before(store: Store, registered, claim, result) -> None:
    registered("Who?")
    store.analyses.record_crash(claim(length=-MINUTES)[0].video_id, most=2)


def _cancelled_before(store: Store, registered, claim, result) -> None:
    ids = registered("Who?")
    store.analyses.cancel(ids)
    store.analyses.retry(ids)


def _answered_by_another(store: Store, registered, claim, result) -> None:
    ids = registered("Who?", fingerprint=OLD)
    (one,) = store.analyses.claim_these(ids, "worker", OLD, MINUTES)
    store.analyses.finish(one, result)


def _answered_before(store: Store, registered, claim, result) -> None:
    _answered_by_another(store, registered, claim, result)
    registered("Who?")


def _asked_by_a_run(store: Store, registered, claim, result) -> None:
    _answered_by_another(store, registered, claim, result)
    _start_run(store, Rule())
    assert store.reindex.feed(FINGERPRINT) == 1


def _start_run(store: Store, rule: Rule) -> None:
    run_id, _ = store.reindex.plan(rule, Limits(), FINGERPRINT)
    store.reindex.start(run_id)


def _joined_by_a_run(store: Store, registered, claim, result) -> None:
    registered("Who?", fingerprint=OLD)
    (one,) = claim(fingerprint=OLD)
    store.analyses.fail(one, NoFrames("none"), ATTEMPTS)
    _start_run(store, Rule(("failed",)))
    registered("Who?")
    assert store.reindex.feed(FINGERPRINT) == 1


def _standing(store: Store, registered, claim, result) -> None:
    store.standing.add(STANDING)
    registered(collection=STANDING.collection)


def _joined_by_standing(store: Store, registered, claim, result) -> None:
    registered(STANDING.request)
    _standing(store, registered, claim, result)


_BY_RUN = (_asked_by_a_run, _joined_by_a_run)
_BY_STANDING = (_standing, _joined_by_standing)


@pytest.mark.parametrize(
    "begin", [_failed_before, _crashed_before, _cancelled_before, _answered_before, *_BY_RUN, *_BY_STANDING]
)
def test_what_others_have_to_do_with_takes_more_than_one_statement(
    store, registered, claim, result, counted, begin
):
    begin(store, registered, claim, result)
    (one,) = claim()
    with heard() as statements:
        assert store.analyses.finish(one, result)
    assert len(statements) > 1
    tried_alone = [each for each in statements if each.sql.startswith("WITH locked")]
    assert len(tried_alone) == (begin in (_failed_before, _cancelled_before, _answered_before))
    assert counted(f"analyses WHERE current AND state = 'succeeded' AND id = {one.analysis_id}") == [1]
    assert counted("analyses WHERE current") == [1]
    assert counted(f"coverage WHERE analysis_id = {one.analysis_id}") == [2]
    assert counted("videos WHERE crashes > 0") == [0]
    assert counted("hits") == [int(begin in _BY_STANDING)]
    assert counted("reindex_runs WHERE state = 'finished'") == [int(begin in _BY_RUN)]


def test_another_answer_that_readers_see_meanwhile_is_replaced(
    store, registered, claim, result, meanwhile, sql
):
    _answered_before(store, registered, claim, result)
    sql("UPDATE analyses SET current = false")
    (one,) = claim()
    assert meanwhile(one, result, f"UPDATE analyses SET current = true WHERE fingerprint = '{OLD}'")
    assert sql("SELECT id FROM analyses WHERE current") == [(one.analysis_id,)]


def test_a_run_that_comes_to_wait_for_it_meanwhile_goes_on(store, registered, claim, result, meanwhile, sql):
    registered("Who?", fingerprint=OLD)
    run_id, _ = store.reindex.plan(Rule(), Limits(), FINGERPRINT)
    sql(
        "INSERT INTO reindex_items (run_id, video_id, asked_key, state, reason) "
        f"SELECT {run_id}, video_id, asked_key, 'waiting', 'stale' FROM analyses"
    )
    sql("UPDATE reindex_runs SET state = 'running'")
    (asked,) = registered("Who?")
    assert meanwhile(
        claim()[0],
        result,
        f"UPDATE analyses SET followed = true WHERE id = {asked}",
        f"UPDATE reindex_items SET state = 'asked', new_analysis_id = {asked}",
    )
    assert sql("SELECT state FROM reindex_items") == [("unchanged",)]
    assert sql("SELECT state FROM reindex_runs") == [("finished",)]


def test_a_recording_whose_start_becomes_known_meanwhile_gives_the_moments_their_instants(
    store, registered, claim, result, meanwhile, sql
):
    registered("Who?")
    (one,) = claim()
    assert one.recorded_at is None
    assert meanwhile(one, result, "UPDATE videos SET recorded_at = '2026-03-01 08:00:00+00'")
    began = sql("SELECT starts_at - start_seconds * INTERVAL '1 second' FROM moments")
    assert [instant for (instant,) in began] == [EIGHT, EIGHT]
    assert len(store.analyses.search("day20260301")) == 1


@pytest.mark.parametrize("change", ["fence = fence + 1", "state = 'cancelled'"])
def test_what_is_taken_over_or_ends_meanwhile_gets_nothing(
    store, registered, claim, result, meanwhile, counted, change
):
    registered("Who?")
    assert not meanwhile(claim()[0], result, f"UPDATE analyses SET {change}")
    assert counted("analyses WHERE state = 'succeeded' OR current", "moments", "coverage") == [0, 0, 0]


def test_progress_that_is_kept_meanwhile_changes_nothing(
    store, registered, claim, result, meanwhile, counted
):
    registered("Who?")
    assert meanwhile(claim()[0], result, "UPDATE analyses SET progress = 0.5, stage = 'verifier'")
    assert counted("analyses WHERE state = 'succeeded' AND progress = 1 AND current") == [1]
    assert counted(*(table.__tablename__ for table in BELOW)) == [2, 2, 1, 2]
