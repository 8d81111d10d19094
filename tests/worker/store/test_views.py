"""What analysts see: the same columns and rows on both databases."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text, update
from sqlalchemy.orm import Session

from tests.worker.store.conftest import ATTEMPTS, MINUTES, read
from vm.errors import NoFrames
from vm.result import Result, VideoFacts
from worker import rows
from worker.errors import SourceUnavailable
from worker.jobs import VERDICTS, Progress, Request, Submission
from worker.store import Checked, Store
from worker.tables import Analysis, CoverageRow, Generation, Video

FACTS = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)
EIGHT = datetime(2026, 3, 1, 8, 0, 0, 999_999, tzinfo=UTC)
VIEWS = ("moment_view", "answer_view", "coverage_gap_view", "queue_view")
PASSING = ("eta", "finished_at", "submitted_at", "started_at", "lease_expires_at", "not_before")
PER_SECOND = 8


@pytest.fixture
def both(sqlite_url: str, postgresql_url: str, opened) -> Iterator[tuple[Store, Store]]:
    with opened(sqlite_url) as sqlite, opened(postgresql_url) as postgresql:
        yield sqlite, postgresql


@pytest.fixture
def unsearched(both) -> tuple[Store, Store]:
    """Each with one video, in which nothing has been searched."""
    for store in both:
        _keep(store, [(40, [])])
    return both


def _told(name: str, value: object) -> object:
    """A value of a view as Python has it: SQLite knows neither instants nor JSON, only texts."""
    if value is None:
        return None
    if name in PASSING:
        return "some time"
    if name.endswith("_at"):
        return read(value)
    return json.loads(value) if name == "options" and isinstance(value, str) else value


def _seen(store: Store, view: str) -> list[dict[str, object]]:
    with store.engine.begin() as connection:
        found = connection.execute(text(f"SELECT * FROM {view}"))
        seen = [{name: _told(name, value) for name, value in row._mapping.items()} for row in found]
    return sorted(seen, key=repr)


def _live(store: Store, result: Result) -> None:
    """Something of everything: answered, failed, cancelled, running and waiting, with and without source."""

    def register(key: str, *questions: str, **how: object) -> list[int]:
        requests = tuple(Request(question, ("a", "ü")) for question in questions)
        accepted = store.submissions.add(Submission(key, f"file:///{key}.mp4", requests, **how))
        intake = store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)
        checked = Checked(f"{key:0>64}", 1000, FACTS, intake.submission.recorded_at, "filename")
        return store.intakes.register(intake, checked, "f" * 64)

    register("one", "Où?", "b", "c", collection="depot", source="gate", recorded_at=EIGHT)
    first, second, third = store.analyses.claim("worker", "f" * 64, MINUTES, ATTEMPTS)
    store.analyses.finish(first, replace(result, question="Où?"))
    store.analyses.fail(second, NoFrames("none"), ATTEMPTS)
    store.analyses.fail(third, SourceUnavailable("wait"), ATTEMPTS)
    register("two", "d", "e", priority=8)
    one, other = store.analyses.claim("worker", "f" * 64, MINUTES, ATTEMPTS)
    store.analyses.finish(one, replace(result, question="d", answer=None))
    store.analyses.report(other.lease, Progress("grounder", 0.25, 60.0))
    store.analyses.cancel(register("three", "g"))
    store.submissions.add(Submission("four", "file:///four.mp4", (Request("h"),)))


@pytest.mark.parametrize("view", VIEWS)
def test_the_views_have_the_same_columns_and_rows_on_both_databases(both, result, view: str):
    for store in both:
        _live(store, result)
    sqlite, postgresql = (_seen(store, view) for store in both)
    assert sqlite
    assert [list(row) for row in sqlite] == [list(row) for row in postgresql]
    assert sqlite == postgresql


def test_the_moment_view_shows_moment_question_answer_place_and_time_in_one_row(both, result):
    for store in both:
        _live(store, result)
        best = next(
            row for row in _seen(store, "moment_view") if row["question"] == "Où?" and row["rank"] == 1
        )
        shown = (
            "video",
            "collection",
            "source",
            "query",
            "start_seconds",
            "verifier_score",
            "answer",
            "starts_at",
        )
        assert [best[name] for name in shown] == [
            "file:///one.mp4",
            "depot",
            "gate",
            "a door opens",
            1.0,
            0.7,
            "through the door",
            EIGHT + timedelta(seconds=1),
        ]


def test_the_queue_view_shows_what_waits_and_what_runs(both, result):
    for store in both:
        _live(store, result)
        seen = {
            (row["queue"], row["video"], row["question"], row["state"], row["progress"], row["eta"])
            for row in _seen(store, "queue_view")
        }
        assert seen == {
            ("analyse", "file:///one.mp4", "c", "queued", 0.0, None),
            ("analyse", "file:///two.mp4", "e", "running", 0.25, "some time"),
            ("ingest", "file:///four.mp4", None, "queued", 0.0, None),
        }


eighths = st.integers(0, 40)
windows = st.tuples(eighths, eighths, st.sampled_from(VERDICTS)).map(lambda w: (min(w[:2]), max(w[:2]), w[2]))
searches = st.tuples(st.integers(0, 40), st.lists(windows, max_size=6))


def _unsearched(duration: int, found: list[tuple[int, int, str]]) -> list[tuple[float, float]]:
    """By looking at each eighth of a second."""
    seen = {
        eighth
        for start, end, verdict in found
        if verdict in ("found", "nothing_found")
        for eighth in range(start, end)
    }
    edges = [
        (eighth in seen or not 0 <= eighth < duration, (eighth - 1) in seen or not 0 <= eighth - 1 < duration)
        for eighth in range(duration + 1)
    ]
    starts = [eighth / PER_SECOND for eighth, (now, before) in enumerate(edges) if before and not now]
    ends = [eighth / PER_SECOND for eighth, (now, before) in enumerate(edges) if now and not before]
    return list(zip(starts, ends, strict=True))


def _keep(store: Store, found: list[tuple[int, list[tuple[int, int, str]]]]) -> None:
    """One video and analysis for each search, in place of those there were."""
    with Session(store.engine) as session, session.begin():
        session.execute(delete(Video))
        session.execute(delete(Generation))
        session.add(Generation(id=1, key="k", fingerprint="f", settings={}, begun_at=EIGHT))
        for number, (duration, windows) in enumerate(found, start=1):
            known = {"uri": "file:///a.mp4", "state": "readable", "crashes": 0, "added_at": EIGHT}
            length = {"duration": duration / PER_SECOND, "recorded_at": EIGHT if number % 2 else None}
            session.add(Video(id=number, sha256=f"{number}", **known, **length))
            session.flush()
            asked = rows.request_columns(Request("Who?"))
            given = {"idempotency_key": f"{number}", "fingerprint": "f", "progress": 0.0}
            given |= {"asked_key": "who", "current": number % 3 > 0, "generation_id": 1}
            session.add(Analysis(id=number, video_id=number, **given, **asked, **rows.new_job(EIGHT)))
            session.flush()
            for position, (start, end, verdict) in enumerate(windows, start=1):
                span = {"start_seconds": start / PER_SECOND, "end_seconds": end / PER_SECOND}
                session.add(
                    CoverageRow(analysis_id=number, position=position, frames=1, verdict=verdict, **span)
                )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(searches, min_size=1, max_size=8))
@example(found=[(40, [(0, 40, "found")]), (40, []), (0, []), (40, [(10, 20, "failed"), (0, 5, "found")])])
@example(found=[(1, [(0, 0, "found")])])
@example(found=[(40, [(5, 30, "found"), (10, 20, "found"), (35, 40, "nothing_found"), (7, 7, "found")])])
def test_the_gaps_are_what_no_window_has_searched(both, found):
    found = [(duration, [w for w in windows if w[1] <= duration]) for duration, windows in found]
    for store in both:
        _keep(store, found)
    sqlite, postgresql = (_seen(store, "coverage_gap_view") for store in both)
    assert sqlite == postgresql
    for number, (duration, windows) in enumerate(found, start=1):
        gaps = [row for row in sqlite if row["analysis_id"] == number]
        spans = sorted((row["start_seconds"], row["end_seconds"]) for row in gaps)
        assert spans == _unsearched(duration, windows)
        for row in gaps if number % 2 else []:
            assert row["starts_at"] == EIGHT + timedelta(seconds=row["start_seconds"])
            assert row["ends_at"] == EIGHT + timedelta(seconds=row["end_seconds"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    recorded_at=st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    seconds=st.floats(0.001, 1e6),
)
def test_the_instants_of_gaps_are_as_precise_as_all_others(unsearched, recorded_at: datetime, seconds: float):
    for store in unsearched:
        with Session(store.engine) as session, session.begin():
            session.execute(update(Video).values(recorded_at=recorded_at, duration=seconds))
        (gap,) = _seen(store, "coverage_gap_view")
        assert gap["starts_at"] == recorded_at
        assert gap["ends_at"] == recorded_at + timedelta(seconds=seconds)


def test_the_gaps_of_a_video_whose_length_nobody_knows_are_not_told(unsearched):
    for store in unsearched:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE videos SET duration = NULL"))
        assert _seen(store, "coverage_gap_view") == []
