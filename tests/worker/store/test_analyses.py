import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH
from sqlalchemy import Select, text
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import IntegrityError

from tests.worker.store.conftest import ATTEMPTS, MINUTES
from vm.errors import NoFrames
from vm.moments import Candidate, Span
from vm.result import Window
from worker.errors import DatabaseUnusable, DecoderCrashed
from worker.jobs import Progress
from worker.store import Store, finishing, first_sight
from worker.store.analyses import MOST_TOGETHER

BELOW = ("candidates", "moments", "answers", "coverage")


def test_all_questions_on_one_video_are_claimed_together(registered, claim):
    first = registered("a", "b", sha256="1")
    second = registered("a", "b", "c", sha256="2")
    assert [one.analysis_id for one in claim()] == first
    assert [one.analysis_id for one in claim()] == second
    assert claim() == []


def test_the_video_of_the_most_urgent_question_is_first_and_of_these_the_oldest(registered, claim):
    registered("a", sha256="1", priority=3)
    registered("a", sha256="2")
    registered("b", sha256="1", priority=7)
    registered("a", sha256="3", priority=7)
    assert [[one.sha256 for one in claim()] for _ in range(4)] == [["1", "1"], ["3"], ["2"], []]


def test_questions_that_were_left_behind_take_their_turn_again(registered, claim, lapsed):
    left = registered("a", sha256="1", priority=4)
    lapsed()
    registered("a", sha256="2", priority=4)
    registered("a", sha256="3", priority=5)
    assert [claim()[0].sha256 for _ in range(3)] == ["3", "1", "2"]
    assert left


def test_no_video_keeps_a_worker_from_others_for_long(registered, claim):
    ids = registered(*[f"question {n}" for n in range(MOST_TOGETHER + 3)])
    assert [one.analysis_id for one in claim()] == ids[:MOST_TOGETHER]
    assert [one.analysis_id for one in claim()] == ids[MOST_TOGETHER:]


def test_what_is_asked_of_another_checkpoint_is_left_to_others(registered, claim):
    registered("a", fingerprint="other")
    ids = registered("a")
    assert [one.analysis_id for one in claim()] == ids
    assert [one.fingerprint for one in claim(fingerprint="other")] == ["other"]


def test_given_analyses_are_claimed_as_far_as_they_are_free(store: Store, registered, claim):
    others = registered("a", fingerprint="other")
    taken = registered("a", sha256="1", priority=9)
    claim()
    free = registered("b", "c", sha256="2")
    asked = [*others, *taken, *free, 999]
    claims = store.analyses.claim_these(asked, "me", "f" * 64, MINUTES)
    assert [one.analysis_id for one in claims] == free
    assert store.analyses.claim_these([], "me", "f" * 64, MINUTES) == []


def test_the_video_that_comes_next_is_told_and_not_claimed(store: Store, registered, claim):
    assert store.analyses.coming("f" * 64, ATTEMPTS) is None
    registered("a", sha256="1", uri="file:///one.mp4")
    registered("a", sha256="2", uri="file:///two.mp4")
    assert store.analyses.coming("f" * 64, ATTEMPTS) == ("file:///one.mp4", "1")
    claim()
    assert store.analyses.coming("f" * 64, ATTEMPTS) == ("file:///two.mp4", "2")
    assert store.analyses.coming("other", ATTEMPTS) is None


def test_a_finished_analysis_gives_back_the_result(store: Store, registered, claim, result):
    ids = registered("Who comes in?")
    assert store.analyses.finish(claim()[0], result)
    (outcome,) = store.analyses.outcomes(ids)
    assert replace(outcome.result, video=result.video) == result
    assert outcome.to_dict()["windows"] == result.to_dict()["windows"]
    assert claim() == []


def test_finishing_twice_changes_nothing(store: Store, registered, claim, result, sql):
    registered("Who comes in?")
    (one,) = claim()
    assert store.analyses.finish(one, result)
    before = [sql(f"SELECT * FROM {table}") for table in ("analyses", *BELOW)]
    assert not store.analyses.finish(one, replace(result, answer=None, moments=()))
    assert [sql(f"SELECT * FROM {table}") for table in ("analyses", *BELOW)] == before


def test_a_result_that_cannot_be_stored_leaves_nothing_behind(
    store: Store, registered, claim, result, sql, counted
):
    registered("Who comes in?")
    two_firsts = replace(result, moments=(result.moments[0], result.moments[0]))
    with pytest.raises(IntegrityError):
        store.analyses.finish(claim()[0], two_firsts)
    assert sql("SELECT state, plan, progress FROM analyses") == [("running", None, 0.0)]
    assert counted(*BELOW) == [0, 0, 0, 0]


def test_scores_that_are_no_numbers_and_texts_of_any_kind_do_not_lose_the_rest(
    store: Store, registered, claim, result, sql
):
    first = result.moments[0]
    odd = replace(first, candidate=replace(first.candidate, p_yes=math.nan, verifier_score=math.inf))
    words = "\0 \ud800 \U0001f6aa {} [] \" ' \\ %s :of $1"
    registered("Who comes in?")
    assert store.analyses.finish(claim()[0], replace(result, moments=(replace(odd, query=words),)))
    ((query, score),) = sql("SELECT query, verifier_score FROM moments")
    assert query == "\ufffd \\ud800 \U0001f6aa {} [] \" ' \\ %s :of $1"
    assert score == math.inf


@pytest.mark.parametrize("statement", [finishing._END_ALONE, first_sight._REGISTER])
def test_the_longest_statements_are_short_enough_for_the_driver_to_keep(statement: Select):
    assert len(str(statement.compile(dialect=psycopg.dialect()))) <= MAX_CACHED_STATEMENT_LENGTH


def test_progress_is_kept_and_begins_anew_with_each_attempt(store: Store, registered, claim, sql, lapsed):
    registered("Who comes in?")
    first = lapsed()
    assert not store.analyses.report(first.lease, Progress("grounder", 0.5, 60.0))
    assert sql("SELECT stage, progress, eta IS NULL FROM analyses") == [("grounder", 0.5, False)]
    claim()
    assert sql("SELECT stage, progress, eta IS NULL FROM analyses") == [(None, 0.0, True)]


def test_outcomes_come_in_the_order_asked_for(store: Store, registered):
    first, second = registered("a", "b")
    found = store.analyses.outcomes([second, 999, first, second])
    assert [outcome.analysis_id for outcome in found] == [second, first, second]
    assert found[0].to_dict()["state"] == "queued"


def test_each_window_says_how_well_it_was_searched_and_what_came_of_it(
    store: Store, registered, claim, result, sql
):
    registered("Who comes in?")
    windows = Window(Span(0.0, 0.9), 5, 0.75), Window(Span(0.9, 1.7), 6, 0.5), Window(Span(1.7, 2.0), 2, None)
    store.analyses.finish(claim()[0], replace(result, windows=windows))
    seen = "SELECT position, start_seconds, end_seconds, frames, best_confidence, best_score, verdict"
    assert sql(f"{seen} FROM coverage ORDER BY position") == [
        (1, 0.0, 0.9, 5, 0.75, 0.4, "nothing_found"),
        (2, 0.9, 1.7, 6, 0.5, 0.7, "found"),
        (3, 1.7, 2.0, 2, None, None, "nothing_found"),
    ]


def test_without_a_verifier_the_confidence_tells_what_was_found(store: Store, registered, claim, result, sql):
    unsure, stand_in = Candidate(Span(0.1, 0.4), 0.6), Candidate(Span(0.95, 1.5), 0.9, fallback=True)
    registered("Who comes in?")
    store.analyses.finish(claim()[0], replace(result, candidates=(unsure, stand_in)))
    assert sql("SELECT best_score, verdict FROM coverage ORDER BY position") == [
        (0.6, "found"),
        (None, "nothing_found"),
    ]


def test_a_result_without_windows_says_that_nothing_was_searched(
    store: Store, registered, claim, result, sql
):
    registered("Who comes in?")
    store.analyses.finish(claim()[0], replace(result, windows=()))
    assert sql("SELECT start_seconds, end_seconds, frames, verdict FROM coverage") == [
        (0.0, 2.0, 0, "not_searched")
    ]
    assert store.analyses.outcomes([1])[0].result.windows == ()


@pytest.mark.parametrize(
    ("end", "verdict"),
    [("fail", "failed"), ("bury", "failed"), ("quarantine", "failed"), ("cancel", "not_searched")],
)
def test_what_ended_without_a_result_says_so_of_its_whole_video(
    store: Store, registered, claim, lapsed, sql, end: str, verdict: str
):
    ids = registered("a", "b", recorded_at=datetime(2026, 3, 1, tzinfo=UTC))
    analyses = store.analyses
    endings = {
        "fail": lambda: [analyses.fail(one, NoFrames("none"), ATTEMPTS) for one in claim()],
        "bury": lambda: (lapsed(), analyses.bury(1)),
        "quarantine": lambda: analyses.record_crash(1, 1),
        "cancel": lambda: analyses.cancel(ids),
    }
    endings[end]()
    seen = "analysis_id, position, start_seconds, end_seconds, frames, verdict, starts_at IS NULL"
    expected = [(one, 1, 0.0, 2.0, 0, verdict, False) for one in ids]
    assert sql(f"SELECT {seen} FROM coverage ORDER BY analysis_id") == expected


def test_a_second_attempt_replaces_what_the_first_one_left(store: Store, registered, claim, result, sql):
    ids = registered("Who comes in?")
    store.analyses.fail(claim()[0], NoFrames("none"), ATTEMPTS)
    store.analyses.retry(ids)
    store.analyses.finish(claim()[0], result)
    assert sql("SELECT count(*), min(verdict) FROM coverage") == [(2, "found")]


def test_what_will_be_tried_again_says_nothing_of_its_video_yet(store: Store, registered, claim, counted):
    registered("a", "b")
    first, second = claim()
    store.analyses.fail(first, DecoderCrashed("it died"), ATTEMPTS)
    store.analyses.give_back([second])
    assert counted("coverage") == [0]


def test_deleting_a_video_deletes_all_that_was_asked_of_it_and_found_in_it(
    store: Store, registered, claim, result, sql, counted
):
    registered("Who comes in?", collection="depot", source="gate")
    store.analyses.finish(claim()[0], result)
    sql("DELETE FROM videos")
    below = ("analyses", "submissions", "requests", *BELOW, "search_index")
    assert counted(*below) == [0] * len(below)
    assert counted("sources", "collections") == [1, 1]


def test_deleting_a_source_keeps_its_videos(registered, sql):
    registered("Who comes in?", collection="depot", source="gate")
    sql("DELETE FROM collections")
    assert sql("SELECT source_id FROM videos") == [(None,)]


def test_a_lost_table_is_an_unusable_database(store: Store, registered, claim):
    registered("a")
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE analyses RENAME TO lost"))
    with pytest.raises(DatabaseUnusable, match=r"no such table|does not exist"):
        claim()
