"""A video that nobody has seen yet is registered by one statement of its own on PostgreSQL. What it does must
be what is done for others."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.statements import heard
from tests.worker.store.conftest import MINUTES
from vm.moments import Span
from vm.result import VideoFacts
from vm.subtitles import Cue
from worker.errors import Cancelled
from worker.jobs import AskSettings, Request, Submission
from worker.standing import Standing
from worker.store import Checked, Store, first_sight

FACTS = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)
CHECKED = Checked("a" * 64, 1000, FACTS, datetime(2026, 3, 1, 8, tzinfo=UTC), "filename")
FINGERPRINT = "f" * 64
QUESTIONS = (
    Request("Who comes in?", ("a guard", "nobody"), "ground-answer", AskSettings(None, 2.0)),
    Request("Who comes in?", subtitles=(Cue(Span(0.0, 1.5), "hello"),)),
    Request("Who comes in?", ("a guard", "nobody"), "ground-answer", AskSettings(None, 2.0)),
)
SUBMISSION = Submission("one", "file:///videos/door.mp4", QUESTIONS, "depot", "gate", priority=7)
LINKED = """
    SELECT s.key, s.state, v.sha256, v.source_id, r.position, a.idempotency_key, a.generation_id, i.document
    FROM submissions s JOIN videos v ON v.id = s.video_id JOIN requests r ON r.submission_id = s.id
    JOIN analyses a ON a.id = r.analysis_id AND a.video_id = v.id JOIN search_index i ON i.analysis_id = a.id
    WHERE s.key = 'one' ORDER BY r.position
"""
COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_name = '{}' AND column_name NOT LIKE '%_at'
    AND column_name NOT IN ('id', 'video_id', 'submission_id', 'analysis_id') ORDER BY column_name
"""
NEW = {
    "videos": f"sha256 = '{CHECKED.sha256}'",
    "analyses": "video_id = (SELECT max(id) FROM videos)",
    "requests": "submission_id = (SELECT max(id) FROM submissions)",
    "submissions": "key = 'one'",
}

pytestmark = pytest.mark.parametrize("database", ["postgresql"])


@pytest.fixture
def taken_in(store: Store):
    """Submits, fetches and registers. Gives the ids, and how many statements registering took."""

    def take_in(submission: Submission, checked: Checked = CHECKED) -> tuple[list[int] | None, int]:
        accepted = store.submissions.add(submission)
        intake = store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)
        with heard() as statements:
            ids = store.intakes.register(intake, checked, FINGERPRINT)
        return ids, len(statements)

    return take_in


@pytest.fixture
def begun(taken_in) -> None:
    """Source and generations are known, from another video."""
    taken_in(replace(SUBMISSION, key="before"), replace(CHECKED, sha256="0" * 64))


def _rows(sql) -> dict[str, list[tuple]]:
    """What was made of the submission, but for ids and times."""
    found = {"linked": sql(LINKED)}
    for table, which in NEW.items():
        columns = ", ".join(f'"{name}"' for (name,) in sql(COLUMNS.format(table)))
        found[table] = sorted(sql(f"SELECT {columns} FROM {table} WHERE {which}"), key=str)
    return found


def test_it_leaves_the_rows_that_others_leave(store, taken_in, begun, sql, monkeypatch):
    ids, statements = taken_in(SUBMISSION)
    at_once = _rows(sql)
    assert (ids[0] == ids[2], ids[0] == ids[1], statements) == (True, False, 1)
    sql(f"DELETE FROM search_index WHERE analysis_id IN ({ids[0]}, {ids[1]})")
    sql("DELETE FROM videos WHERE id = (SELECT max(id) FROM videos)")  # and all that was asked of it
    monkeypatch.setattr(first_sight, "register", lambda *_: None)
    _, statements = taken_in(SUBMISSION)
    assert statements > 1
    assert _rows(sql) == at_once
    assert [len(rows) for rows in at_once.values()] == [3, 1, 2, 3, 1]


def test_what_was_cancelled_or_taken_over_leaves_nothing(store, begun, counted, sql):
    before = counted("videos", "analyses")
    store.submissions.add(SUBMISSION)
    cancelled = store.submissions.claim("registrar", MINUTES, 3)
    store.submissions.cancel([cancelled.lease.id])
    with pytest.raises(Cancelled):
        store.intakes.register(cancelled, CHECKED, FINGERPRINT)
    sql("UPDATE submissions SET cancel_requested = false, fence = fence + 1")
    assert store.intakes.register(cancelled, CHECKED, FINGERPRINT) is None
    assert counted("videos", "analyses") == before


def test_what_is_odd_takes_more_than_one_statement(store, taken_in, begun, subtests):
    store.standing.add(Standing("What moves?", "school"))
    other = AskSettings(window=9.0)
    odd = {
        "a known video": (SUBMISSION, replace(CHECKED, sha256="0" * 64)),
        "a new source": (replace(SUBMISSION, source="door"), CHECKED),
        "a new generation": (
            replace(SUBMISSION, requests=(Request("Why?", settings=other),)),
            CHECKED,
        ),
        "standing questions": (replace(SUBMISSION, collection="school"), CHECKED),
        "a secret": (replace(SUBMISSION, uri="https://me:secret@example.org/a.mp4"), CHECKED),
    }
    for number, (why, (submission, checked)) in enumerate(odd.items()):
        with subtests.test(why=why):
            sha256 = checked.sha256 if checked is not CHECKED else str(number + 1) * 64
            ids, statements = taken_in(replace(submission, key=why), replace(checked, sha256=sha256))
            assert statements > 1
            assert len(ids) >= len(submission.requests)
