from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from worker import service
from worker.ingest import Registrar
from worker.jobs import Request, Submission
from worker.settings import Settings
from worker.store import Store

BEGAN = datetime(2026, 3, 1, 7, tzinfo=UTC)


@pytest.fixture
def registrar(store: Store, settings: Settings, mind) -> Registrar:
    return Registrar(store, settings, mind.fingerprint)


def _submit(store: Store, uri: object, **how: object) -> int:
    requests = (Request("a"), Request("b"))
    return service.add(store, Submission(str(uri), str(uri), requests, **how)).submission_id


def _videos(store: Store, columns: str) -> list[tuple]:
    with store.engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM videos ORDER BY id"))]


def test_a_submitted_video_is_fetched_checked_and_registered_with_its_questions(
    registrar: Registrar, store: Store, video: Path
):
    submission = _submit(store, video)
    ids = registrar.work()
    assert ids == store.submissions.analyses(submission)
    assert [outcome.question for outcome in store.analyses.outcomes(ids)] == ["a", "b"]
    assert _videos(store, "state, duration, frame_count, size_bytes") == [
        ("readable", 2.0, 10, video.stat().st_size)
    ]
    assert registrar.work() is None


@pytest.mark.parametrize(
    ("content", "code", "kept"),
    [
        (b"no video at all" * 100, "unsupported_media", [("unreadable", "unsupported_media")]),
        (b"", "invalid_source", []),
        (None, "invalid_source", []),
    ],
)
def test_what_is_no_video_ends_its_submission_with_the_reason_and_no_other(
    registrar: Registrar,
    store: Store,
    video: Path,
    tmp_path: Path,
    content: bytes | None,
    code: str,
    kept: list[tuple],
):
    bad = tmp_path / "bad.mp4"
    if content is not None:
        bad.write_bytes(content)
    _submit(store, bad)
    _submit(store, video)
    assert registrar.work() == []
    assert registrar.work()
    arrivals = {arrival.uri: (arrival.state, arrival.error_code) for arrival in store.queues.arrivals()}
    assert arrivals == {str(bad): ("failed", code), str(video): ("succeeded", None)}
    assert _videos(store, "state, error_code") == [*kept, ("readable", None)]


def test_when_it_was_recorded_is_kept_with_what_told_it(
    registrar: Registrar, store: Store, tmp_path: Path, encode
):
    store.sources.describe("depot", "gate", "gate_%Y%m%d_%H%M", "Europe/Berlin")
    named = encode(tmp_path / "gate_20260301_0800.mp4")
    told = encode(tmp_path / "gate_20260301_0900.mp4", seed=1)
    unknown = encode(tmp_path / "other.mp4", seed=2)
    for path, began in ((named, None), (told, BEGAN), (unknown, None)):
        _submit(store, path, collection="depot", source="gate", recorded_at=began)
        registrar.work()
    found = _videos(store, "recorded_at_origin, recorded_at")
    assert [origin for origin, _ in found] == ["filename", "argument", None]
    assert [str(began)[:16] for _, began in found[:2]] == ["2026-03-01 07:00"] * 2


def test_files_outside_of_the_roots_are_refused(
    store: Store, settings: Settings, mind, video: Path, tmp_path
):
    registrar = Registrar(store, settings.changed(media_roots=(tmp_path,)), mind.fingerprint)
    _submit(store, video)
    assert registrar.work() == []
    assert store.queues.arrivals()[0].error_code == "source_forbidden"


def test_a_server_that_does_not_answer_is_asked_again_later(registrar: Registrar, store: Store):
    _submit(store, "http://127.0.0.1:9/a.mp4")  # loopback is not allowed, whoever listens
    registrar.work()
    assert store.queues.arrivals()[0].error_code == "source_forbidden"


def test_the_same_content_under_another_name_is_the_same_video(
    registrar: Registrar, store: Store, video: Path, tmp_path: Path
):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    _submit(store, video)
    _submit(store, copy)
    assert registrar.work() == registrar.work()
    assert len(_videos(store, "id")) == 1


def test_an_interruption_hands_the_submission_back(
    registrar: Registrar, store: Store, video: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("worker.ingest.opened", interrupt)
    _submit(store, video)
    with pytest.raises(KeyboardInterrupt):
        registrar.work()
    arrival = store.queues.arrivals()[0]
    assert (arrival.state, arrival.attempts) == ("queued", 0)
