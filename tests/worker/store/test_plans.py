"""What is asked all the time is found by an index, however much there is."""

import re

import pytest
from sqlalchemy import text

from tests.statements import heard
from tests.worker.store.conftest import ATTEMPTS, MINUTES
from worker.store import Store

ASKED = {
    "SELECT * FROM moment_view WHERE starts_at BETWEEN '2026-03-01' AND '2026-03-02'": "ix_moments_starts_at",
    "SELECT * FROM moment_view WHERE video_id = 7": "ix_analyses_video_id",
    "SELECT * FROM moment_view WHERE analysis_id = 7": "uq_moments_analysis_id_rank",
    "SELECT * FROM answer_view WHERE video_id = 7": "ix_analyses_video_id",
    "SELECT * FROM answer_view WHERE finished_at > '2026-03-01'": "ix_analyses_finished_at",
    "SELECT * FROM coverage_gap_view WHERE analysis_id = 7": "uq_coverage_analysis_id_position",
    "SELECT * FROM videos WHERE source_id = 1 AND recorded_at > '2026-03-01'": (
        "ix_videos_source_id_recorded_at"
    ),
    "SELECT * FROM videos WHERE recorded_at > '2026-03-01'": "ix_videos_recorded_at",
}
MANY = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)"
JOB = "state, priority, attempts, losses, fence, cancel_requested, submitted_at"
WAITING = "'queued', i % 3, 0, 0, 0, false, CURRENT_TIMESTAMP"
FILL = (
    "INSERT INTO collections (name) VALUES ('depot')",
    f"INSERT INTO sources (collection_id, name) {MANY} SELECT 1, CAST(i AS TEXT) FROM n WHERE i <= 50",
    f"INSERT INTO videos (sha256, uri, state, crashes, source_id, recorded_at, added_at) {MANY} "
    "SELECT CAST(i AS TEXT), 'file:///a', 'readable', 0, 1 + i % 50, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP "
    "FROM n WHERE i <= 400",
    f"INSERT INTO submissions (key, uri, force, callback_attempts, {JOB}) {MANY} "
    f"SELECT CAST(i AS TEXT), 'file:///a', false, 0, {WAITING} FROM n",
    "INSERT INTO generations (key, fingerprint, settings, begun_at) "
    "VALUES ('k', 'f', '{}', CURRENT_TIMESTAMP)",
    "INSERT INTO analyses (video_id, idempotency_key, question, options, mode, settings, fingerprint, "
    f"asked_key, current, generation_id, progress, {JOB}) {MANY} SELECT 1 + i % 400, CAST(i AS TEXT), "
    f"'Who?', '[]', 'auto', '{{}}', 'f', CAST(i AS TEXT), true, 1, 0, {WAITING} FROM n",
    "INSERT INTO moments (analysis_id, rank, start_seconds, end_seconds, starts_at, ends_at, confidence, "
    f"fallback, query) {MANY} SELECT i, 1, 0, 1, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, 1, false, 'q' FROM n",
    "INSERT INTO answers (analysis_id, text, start_seconds, end_seconds) "
    f"{MANY} SELECT i, 'yes', 0, 1 FROM n",
    "INSERT INTO coverage (analysis_id, position, start_seconds, end_seconds, frames, verdict) "
    f"{MANY} SELECT i, 1, 0, 1, 1, 'found' FROM n",
    f"INSERT INTO reindex_runs (state, rule, limits, fingerprint, created_at) {MANY} "
    "SELECT 'finished', '{}', '{}', 'f', CURRENT_TIMESTAMP FROM n WHERE i <= 20",
    "INSERT INTO reindex_items (run_id, video_id, asked_key, state, reason, replaced_analysis_id, "
    f"new_analysis_id, switched_at) {MANY} SELECT 1 + i % 20, 1 + i % 400, CAST(i AS TEXT), 'switched', "
    "'stale', i, 1 + i % 2000, CURRENT_TIMESTAMP FROM n",
    "ANALYZE",
)


@pytest.fixture
def filled(store: Store) -> Store:
    """With two thousand submissions and analyses, all waiting."""
    with store.engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement))
    return store


def _plan(store: Store, statement: str, values: object = ()) -> str:
    """How the database would find what the statement asks for."""
    with store.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
            return "\n".join(row[3] for row in found)
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values))


def test_what_is_next_is_found_without_sorting_all_that_waits(filled: Store):
    looks = {
        "submissions": lambda: filled.submissions.claim("me", MINUTES, ATTEMPTS),
        "analyses": lambda: filled.analyses.claim("me", "f", MINUTES, ATTEMPTS),
    }
    for table, look in looks.items():
        with heard() as statements:
            assert look()
        looked = next(each for each in statements if "LIMIT" in each.sql)
        plan = _plan(filled, looked.sql, looked.values)
        index = f"ix_{table}_state_priority_submitted_at"
        assert plan.count(index) == 2, "what waits, and what was left behind"
        # Of those that were submitted at the same instant the first is taken; they are sorted, and no others.
        assert not re.search(
            rf"(?<!Incremental )Sort  .*\n.*Sort Key.*\n(.*Result.*\n.*Filter.*\n)?.*{index}", plan
        )
        assert not re.search(rf"{index}.*\nUSE TEMP B-TREE", plan)
        assert "ix_analyses_video_id" in plan or table == "submissions"


def test_what_analysts_ask_is_found_by_an_index(filled: Store, subtests: pytest.Subtests):
    for question, index in ASKED.items():
        # SQLite names the indexes of its constraints itself.
        name = index
        if filled.engine.dialect.name == "sqlite" and index.startswith("uq_"):
            name = f"sqlite_autoindex_{index.split('_')[1]}_1"
        with subtests.test(question=question):
            assert name in _plan(filled, question)


def test_the_best_of_a_day_are_found_without_looking_at_all_that_happened_on_it(filled: Store, database: str):
    spread = {
        "sqlite": "datetime('2026-01-01', id || ' hours')",
        "postgresql": "TIMESTAMPTZ '2026-01-01' + id * INTERVAL '1 hour'",
    }
    with filled.engine.begin() as connection:
        connection.execute(text(f"UPDATE moments SET starts_at = {spread[database]}"))
        connection.execute(text("ANALYZE"))
    which = {
        "sqlite": "date(starts_at) = '2026-03-01' ORDER BY verifier_score DESC LIMIT 3",
        "postgresql": "(starts_at AT TIME ZONE 'UTC')::date = '2026-03-01' "
        "ORDER BY verifier_score DESC NULLS LAST LIMIT 3",
    }
    plan = _plan(filled, f"SELECT * FROM moment_view WHERE {which[database]}")
    assert "ix_moments_day" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_the_gaps_of_one_video_are_found_in_a_database_for_many(filled: Store, database: str):
    if database == "sqlite":
        return  # which goes through all of them
    plan = _plan(filled, "SELECT * FROM coverage_gap_view WHERE video_id = 7")
    assert "ix_analyses_video_id" in plan
    assert "Seq Scan" not in plan


def test_a_runs_changes_are_looked_for_in_that_run_alone(filled: Store, database: str):
    plan = _plan(filled, "SELECT * FROM moment_diff_view WHERE run_id = 7")
    in_sqlite, elsewhere = (
        "SEARCH items USING INDEX ix_reindex_items_run_id_state",
        "Index Cond: (run_id = 7)",
    )
    assert plan.count(in_sqlite if database == "sqlite" else elsewhere) == 3  # old, new, answers
    assert "SCAN items" not in plan
