"""What an older program has stored is there after an upgrade, and after the way back."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.servers import DATABASES
from worker import schema
from worker.database import open_engine
from worker.daywords import touched
from worker.store import Store

pytestmark = pytest.mark.parametrize("database", DATABASES)

TABLES = {"videos": "id", "analyses": "id", "candidates": "id", "moments": "id", "answers": "analysis_id"}
PLAN = {"steps": [{"role": "grounder", "query": "a dog"}], "text": None, "fallback": True}
ASKED = f"'Où?', '[\"a\", \"ü\"]', 'auto', '{json.dumps({'window': None})}', 'f'"
BEGAN, ENDED = "'2026-01-02 08:00:00.250000'", "'2026-01-02 08:00:09.000000'"

# One of everything the older program could leave behind.
OLD_ROWS = (
    "INSERT INTO videos (id, sha256, uri, state, duration, frame_rate, frame_count, width, height, codec, "
    "rotation, start_time, error_code, error_message) VALUES "
    "(1, 'aa', 'file:///a.mp4', 'readable', 60, 25, 1500, 640, 480, 'h264', 90, 0.5, NULL, NULL), "
    "(2, 'bb', 'file:///b.mp4', 'unreadable', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'x', 'bad'), "
    "(3, 'cc', 'file:///c.mp4', 'known', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "INSERT INTO analyses (id, video_id, idempotency_key, question, options, mode, settings, fingerprint, "
    "state, attempts, plan, plan_fallback, query, warnings, seconds, error_code, error_message, "
    "submitted_at, started_at, finished_at) VALUES "
    f"(1, 1, 'k1', {ASKED}, 'succeeded', 2, '{json.dumps(PLAN)}', true, 'a dog', '[]', '{{\"total\": 1.5}}', "
    f"NULL, NULL, {BEGAN}, {BEGAN}, {ENDED}), "
    f"(2, 1, 'k2', {ASKED}, 'queued', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {BEGAN}, NULL, NULL), "
    f"(3, 1, 'k3', {ASKED}, 'queued', 7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {BEGAN}, NULL, NULL), "
    f"(4, 2, 'k4', {ASKED}, 'running', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {BEGAN}, {BEGAN}, NULL), "
    f"(5, 2, 'k5', {ASKED}, 'failed', 3, NULL, NULL, NULL, NULL, NULL, 'x', 'bad', "
    f"{BEGAN}, {BEGAN}, {ENDED})",
    "INSERT INTO candidates (id, analysis_id, position, start_seconds, end_seconds, confidence, p_yes, p_no, "
    "verifier_score, fallback) VALUES (1, 1, 1, 0.1, 0.4, 0.75, 0.2, 0.6, 0.4, false), "
    "(2, 1, 2, 1, 1.6, 0.5, NULL, NULL, NULL, true)",
    "INSERT INTO moments (id, analysis_id, rank, query, start_seconds, end_seconds, confidence, p_yes, p_no, "
    "verifier_score, fallback) VALUES (1, 1, 1, 'a dog', 0.1, 0.4, 0.75, 0.2, 0.6, 0.4, false)",
    "INSERT INTO answers (analysis_id, text, option, start_seconds, end_seconds) "
    "VALUES (1, 'beside the kennel', 'B', 0, 2)",
)

# One analysis of a run, one of a standing question, and one that a run waits for no more.
WAITED_FOR = (
    "INSERT INTO reindex_runs (id, state, rule, limits, fingerprint, created_at) "
    f"VALUES (1, 'running', '{{}}', '{{}}', 'f', {BEGAN})",
    "INSERT INTO reindex_items (id, run_id, video_id, asked_key, state, reason, new_analysis_id) "
    "VALUES (1, 1, 1, 'k', 'asked', 'stale', 2), (2, 1, 1, 'l', 'cancelled', 'stale', 3)",
    "INSERT INTO collections (id, name) VALUES (1, 'depot')",
    "INSERT INTO standing_questions (id, collection_id, question, options, mode, settings, threshold, "
    f"time_zone, enabled, created_at) VALUES (1, 1, 'Où?', '[]', 'auto', '{{}}', 0.5, 'UTC', true, {BEGAN})",
    "INSERT INTO standing_analyses (standing_id, analysis_id) VALUES (1, 4), (1, 1)",
)


@pytest.fixture
def sql(empty: str) -> Callable[..., list[dict[str, Any]]]:
    def run(statement: str) -> list[dict[str, Any]]:
        engine = open_engine(empty)
        with engine.begin() as connection:
            done = connection.execute(text(statement))
            found = [dict(row._mapping) for row in done] if done.returns_rows else []
        engine.dispose()
        return found

    return run


@pytest.fixture
def migrate(empty: str) -> Callable[..., None]:
    def to(revision: str, is_back: bool = False) -> None:
        with schema.alembic_config(empty) as config:
            (command.downgrade if is_back or revision == "0001" else command.upgrade)(config, revision)

    return to


@pytest.fixture
def old(empty: str, sql, migrate) -> dict[str, list[dict[str, Any]]]:
    """All rows of a database of the older program."""
    with schema.alembic_config(empty) as config:
        command.upgrade(config, "0001")
    for statement in OLD_ROWS:
        sql(statement)
    return _rows(sql)


def _rows(sql) -> dict[str, list[dict[str, Any]]]:
    return {table: sql(f"SELECT * FROM {table} ORDER BY {key}") for table, key in TABLES.items()}


def test_nothing_that_was_stored_is_lost_or_changed_by_an_upgrade(old, sql, migrate):
    migrate("head")
    begun = {4: ("running", "queued"), 3: ("queued", "queued"), 2: ("queued", "queued")}
    for table, before in old.items():
        after = _rows(sql)[table]
        assert len(after) == len(before)
        for row, found in zip(before, after, strict=True):
            kept = {name: found[name] for name in row}
            if table == "analyses" and row["id"] in begun:  # is begun from the start
                assert (row.pop("state"), kept.pop("state")) == begun[row["id"]]
                assert (row.pop("attempts"), kept.pop("attempts")) == (found["fence"], 0)
            assert kept == row


def test_after_the_way_back_everything_is_as_it_was_and_nobody_is_at_work(old, sql, migrate):
    migrate("head")
    migrate("0001")
    old["analyses"][3]["state"] = "queued"
    assert _rows(sql) == old


def test_the_way_there_and_back_can_be_gone_again(old, sql, migrate, empty: str):
    for _ in range(2):
        migrate("head")
        migrate("0001")
    migrate("head")
    assert schema.check(empty) == "0007"
    assert len(_rows(sql)["moments"]) == 1


def test_what_an_older_program_answered_can_be_read_seen_and_searched(old, sql, migrate, empty: str):
    migrate("head")
    with Store(empty) as store:
        (outcome,) = store.analyses.outcomes([1])
        assert (outcome.state, outcome.result.answer.text) == ("succeeded", "beside the kennel")
        assert [found.analysis_id for found in store.analyses.search("kennel dog")] == [1]
        assert len(store.analyses.search("où")) == 5
    assert sql("SELECT video, answer, collection FROM moment_view") == [
        {"video": "file:///a.mp4", "answer": "beside the kennel", "collection": None}
    ]


def test_what_was_asked_before_is_found_by_its_day_after_an_upgrade_and_by_its_words_after_the_way_back(
    old, sql, migrate, empty: str
):
    recorded = datetime(2024, 2, 28, 23, tzinfo=UTC)
    lengths = {1: 2 * 86_400.0, 2: 1e9, 3: None}
    migrate("0004")
    for video_id, length in lengths.items():
        set_to = f"recorded_at = '2024-02-28 23:00:00.000000+00:00', duration = {length or 'NULL'}"
        if _is_sqlite(empty):
            set_to = set_to.replace("+00:00", "")
        sql(f"UPDATE videos SET {set_to.replace(':', chr(92) + ':')} WHERE id = {video_id}")
    sql("UPDATE analyses SET video_id = 3 WHERE id = 3")
    migrate("head")
    with Store(empty) as store:
        for analysis_id, video_id in ((1, 1), (2, 1), (3, 3), (4, 2), (5, 2)):
            words = touched(recorded, lengths[video_id])
            for word in words:
                assert analysis_id in {found.analysis_id for found in store.analyses.search(f"où {word}")}
        for_long = [found.analysis_id for found in store.analyses.search("anyday")]
        assert sorted(for_long) == [4, 5]
        assert len(store.analyses.search("day20240302 où")) == 0
        assert sorted(found.analysis_id for found in store.analyses.search("day20240301 où")) == [1, 2]
    migrate("0004", is_back=True)
    for statement in ("MATCH 'day20240228'", "MATCH 'kennel'"):
        sqlite = f"SELECT analysis_id FROM search_index WHERE search_index {statement}"
        postgresql = "SELECT analysis_id FROM search_index WHERE document @@ plainto_tsquery({})"
        found = sql(sqlite if _is_sqlite(empty) else postgresql.format(f"'simple', {statement[6:]}"))
        assert len(found) == ("kennel" in statement)


def _is_sqlite(url: str) -> bool:
    return url.startswith("sqlite")


def test_what_an_older_program_left_waiting_or_running_is_done_by_the_new_one(old, migrate, empty: str):
    migrate("head")
    with Store(empty) as store:
        claims = store.analyses.claim_these([1, 2, 3, 4, 5], "worker", "f", timedelta(minutes=5))
        assert [(claim.analysis_id, claim.attempts, claim.lease.fence) for claim in claims] == [
            (2, 1, 1),
            (3, 1, 8),
            (4, 1, 2),
        ]
        assert store.analyses.bury(3) == []


def test_what_opens_a_video_is_kept_apart_by_an_upgrade_and_put_back_on_the_way_back(
    old, sql, migrate, empty: str
):
    secret, shown = "https://anna:hush@cams.example/a?token=hush", "https://anna:***@cams.example/a?token=***"
    written = secret.replace(":", "\\:")  # which would name a value
    sql(f"UPDATE videos SET uri = '{written}', error_message = '{written} is odd' WHERE id < 3")
    migrate("head")
    assert sql("SELECT uri, error_message FROM videos ORDER BY id") == [
        *[{"uri": shown, "error_message": f"{shown} is odd"}] * 2,
        {"uri": "file:///c.mp4", "error_message": None},
    ]
    with Store(empty) as store:
        (taken,) = store.analyses.claim_these([2], "worker", "f", timedelta(minutes=5))
    assert taken.uri == secret
    migrate("0001")
    uris = [row["uri"] for row in sql("SELECT uri FROM videos ORDER BY id")]
    assert uris == [secret, secret, "file:///c.mp4"]


def test_what_a_run_or_a_standing_question_waits_for_is_known_after_an_upgrade(old, sql, migrate, empty: str):
    migrate("0005")
    for statement in WAITED_FOR:
        sql(statement)
    migrate("head")
    assert [row["id"] for row in sql("SELECT id FROM analyses WHERE followed ORDER BY id")] == [2, 4]
    migrate("0005", is_back=True)
    assert "followed" not in sql("SELECT * FROM analyses")[0]


def test_references_hold_after_an_upgrade_and_after_the_way_back(old, sql, migrate):
    for revision in ("head", "0001"):
        migrate(revision)
        with pytest.raises(IntegrityError):
            sql("UPDATE analyses SET video_id = 999 WHERE id = 1")
    sql("DELETE FROM videos WHERE id = 1")
    assert [len(rows) for rows in _rows(sql).values()] == [2, 2, 0, 0, 0]


def test_checks_hold_after_an_upgrade_and_after_the_way_back(old, sql, migrate):
    for revision in ("head", "0001"):
        migrate(revision)
        for broken in (
            "UPDATE analyses SET state = 'nonsense'",
            "UPDATE videos SET state = 'nonsense'",
            "UPDATE moments SET start_seconds = 5, end_seconds = 4",
        ):
            with pytest.raises(IntegrityError):
                sql(broken)


def test_what_the_older_program_does_not_know_becomes_what_it_does(old, sql, migrate):
    migrate("head")
    sql("UPDATE analyses SET state = 'cancelled' WHERE id = 2")
    sql("UPDATE videos SET state = 'quarantined' WHERE id = 3")
    sql("UPDATE analyses SET fence = 9, attempts = 1 WHERE id = 3")
    migrate("0001")
    assert sql("SELECT state, error_code FROM analyses WHERE id = 2") == [
        {"state": "failed", "error_code": "cancelled"}
    ]
    assert sql("SELECT state FROM videos WHERE id = 3") == [{"state": "unreadable"}]
    assert sql("SELECT attempts FROM analyses WHERE id = 3") == [{"attempts": 9}]
