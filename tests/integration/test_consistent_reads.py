"""What tells half an analysis from a whole one. `test_faults` has it look on while everything breaks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from tests.integration.made import FACTS, FINGERPRINT, result
from tests.integration.onlooker import HALF
from tests.servers import DATABASES
from worker.jobs import Request, Submission
from worker.store import Checked, Store

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def half(url: str) -> Callable[..., set[str]]:
    """Which kinds of rows are half there, after a statement: beside one analysis that is answered, one that
    runs, one that waits, and a submission that waits."""
    with Store(url) as store:
        store.submissions.add(Submission("first", "/a.mp4", (Request("answered"), Request("running"))))
        intake = store.submissions.claim("me", MINUTE, 3)
        store.intakes.register(intake, Checked("0" * 64, 1, FACTS), FINGERPRINT)
        claim, _ = store.analyses.claim("me", FINGERPRINT, MINUTE, 3)
        store.analyses.finish(claim, result("answered"))
        store.submissions.add(Submission("second", "/b.mp4", (Request("waiting"),)))
        store.intakes.register(
            store.submissions.claim("me", MINUTE, 3), Checked("1" * 64, 1, FACTS), FINGERPRINT
        )
        store.submissions.add(Submission("third", "/c.mp4", (Request("still to come"),)))

    def look(statement: str = "SELECT 1") -> set[str]:
        with Store(url) as store, store.engine.begin() as connection:
            connection.execute(text(statement))
            return {row[0] for row in connection.execute(text(HALF))}

    return look


def test_what_waits_what_runs_and_what_is_answered_are_whole(half):
    assert half() == set()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM answers", "analysis"),
        ("DELETE FROM moments WHERE rank = 2", "analysis"),
        ("DELETE FROM candidates", "analysis"),
        ("DELETE FROM coverage", "analysis"),
        ("UPDATE analyses SET plan = NULL", "analysis"),
        ("UPDATE analyses SET finished_at = NULL", "analysis"),
        ("UPDATE analyses SET state = 'queued' WHERE state = 'succeeded'", "analysis"),
        ("UPDATE analyses SET current = true WHERE state = 'queued'", "analysis"),
        ("UPDATE analyses SET current = false", "question"),
        ("UPDATE analyses SET lease_holder = NULL", "analysis"),
        ("UPDATE analyses SET lease_holder = 'me'", "analysis"),
        ("UPDATE requests SET analysis_id = NULL", "submission"),
        ("UPDATE submissions SET state = 'queued'", "submission"),
    ],
)
def test_half_of_anything_is_seen(half, statement: str, kind: str):
    assert half(statement) == {kind}


def test_answers_of_two_checkpoints_on_one_video_are_seen(half):
    twice = "UPDATE analyses SET current = true, fingerprint = 'another' WHERE state = 'running'"
    assert half(twice) == {"analysis", "video"}
