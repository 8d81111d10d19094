import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.worker.made import Source, source_of
from vm.errors import DecoderCrashed, DecodeTimeout, OutOfMemory, QuestionError
from worker.analysis import Analyst
from worker.errors import DatabaseUnusable
from worker.jobs import NORMAL, Progress, Request
from worker.settings import Settings
from worker.store import Store


def _silent(*_: object) -> None:
    """Nobody watches."""


def _raise(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture
def analyst(mind, store: Store, settings: Settings) -> Analyst:
    return Analyst(mind, store, settings, _silent)


def _states(store: Store, ids: list[int]) -> list[tuple[str, str | None]]:
    return [(outcome.state, outcome.error_code) for outcome in store.analyses.outcomes(ids)]


def test_questions_on_one_video_share_one_opening(
    analyst: Analyst, store: Store, registered, mind, source: Source
):
    ids = registered("a", "b")
    assert analyst.work()
    assert len(mind.opened) == 1
    assert mind.hashes == [source.sha256]
    assert [outcome.result.question for outcome in store.analyses.outcomes(ids)] == ["a", "b"]
    assert not analyst.work()


@pytest.fixture
def other(registered, tmp_path: Path, encode) -> Callable[..., list[int]]:
    """Registers questions on another video."""
    source = source_of(encode(tmp_path / "other.mp4", seed=1))

    def register(*questions: str | Request, **how: object) -> list[int]:
        return registered(*questions, sha256=source.sha256, uri=source.uri, **how)

    return register


def test_videos_are_worked_on_one_by_one_the_oldest_first(analyst: Analyst, registered, other, mind):
    registered("a", "c")
    other("b")
    assert [analyst.work() for _ in range(3)] == [True, True, False]
    assert mind.asked == ["a", "c", "b"]
    assert [path.name for path in mind.opened] == ["door.mp4", "other.mp4"]


def test_what_is_urgent_goes_first(analyst: Analyst, registered, other, mind):
    registered("a")
    other("b", priority=NORMAL + 1)
    analyst.work()
    assert mind.asked == ["b"]


def test_chosen_analyses_are_worked_on_wherever_they_stand(analyst: Analyst, registered, other, mind):
    registered("a", priority=9)
    chosen = other("b")
    assert analyst.work(chosen)
    assert mind.asked == ["b"]
    assert not analyst.work(chosen)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (QuestionError("too long"), "failed", "bad_question"),
        (DecodeTimeout("too slow"), "failed", "decode_timeout"),
        (OutOfMemory("no memory left"), "queued", "out_of_memory"),
        (MemoryError("all gone"), "queued", "internal_error"),
    ],
)
def test_a_failed_question_does_not_stop_the_others_and_what_may_pass_is_tried_again(
    analyst: Analyst, store: Store, registered, mind, error: Exception, state: str, code: str
):
    mind.answers["bad"] = _raise(error)
    ids = registered("bad", "good")
    analyst.work()
    assert _states(store, ids) == [(state, code), ("succeeded", None)]
    assert str(error) in store.analyses.outcomes(ids)[0].error_message


def test_what_fails_at_each_attempt_has_failed(store: Store, registered, mind, settings: Settings):
    mind.answers["bad"] = _raise(MemoryError("all gone"))
    ids = registered("bad")
    analyst = Analyst(mind, store, settings.changed(max_attempts=2), _silent)
    assert analyst.work()
    assert not analyst.work()  # it waits for its time
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE analyses SET not_before = NULL"))
    assert analyst.work()
    assert _states(store, ids) == [("failed", "internal_error")]


def test_a_video_that_is_gone_fails_its_questions_and_no_others(
    analyst: Analyst, store: Store, registered, other, tmp_path: Path
):
    gone, there = other("a", "b"), registered("c")
    (tmp_path / "other.mp4").unlink()
    while analyst.work():
        pass
    assert _states(store, gone) == [("failed", "invalid_source")] * 2
    assert _states(store, there) == [("succeeded", None)]


def test_a_video_that_has_changed_is_not_taken_for_the_one_that_was_asked_about(
    analyst: Analyst, store: Store, other, tmp_path: Path, encode
):
    ids = other("a")
    encode(tmp_path / "other.mp4", seed=2)
    analyst.work()
    assert _states(store, ids) == [("failed", "invalid_source")]


def test_a_video_that_kills_its_process_twice_is_quarantined(
    analyst: Analyst, store: Store, registered, mind
):
    mind.answers["a"] = _raise(DecoderCrashed("it died"))
    ids = registered("a", "b")
    analyst.work()
    assert _states(store, ids) == [("queued", "decoder_crashed"), ("succeeded", None)]
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE analyses SET not_before = NULL"))
    analyst.work()
    assert _states(store, ids)[0] == ("failed", "quarantined")
    with store.engine.begin() as connection:
        assert connection.execute(text("SELECT state, crashes FROM videos")).one() == ("quarantined", 2)


def test_a_database_that_is_away_while_it_looks_ahead_ends_nothing(
    analyst: Analyst, store: Store, registered, mind, monkeypatch
):
    monkeypatch.setattr(store.analyses, "coming", _raise(DatabaseUnusable("it is away")))
    ids = registered("a")
    analyst.work()
    assert _states(store, ids) == [("succeeded", None)]


def test_a_result_that_cannot_be_stored_is_a_failure_of_that_question(
    analyst: Analyst, store: Store, registered, mind, found
):
    result = found("bad")
    mind.answers["bad"] = lambda: replace(result, moments=result.moments * 2)
    ids = registered("bad", "good")
    analyst.work()
    assert _states(store, ids) == [("queued", "internal_error"), ("succeeded", None)]


def test_an_interruption_hands_back_what_is_not_finished(analyst: Analyst, store: Store, registered, mind):
    mind.answers["b"] = _raise(KeyboardInterrupt())
    ids = registered("a", "b", "c")
    with pytest.raises(KeyboardInterrupt):
        analyst.work()
    assert _states(store, ids) == [("succeeded", None), ("queued", None), ("queued", None)]


def test_the_work_goes_on_where_it_was_interrupted(analyst: Analyst, store: Store, registered, mind):
    mind.answers["b"] = _raise(KeyboardInterrupt())
    ids = registered("a", "b")
    with pytest.raises(KeyboardInterrupt):
        analyst.work()
    del mind.answers["b"]
    analyst.work()
    assert mind.asked == ["a", "b", "b"]
    assert _states(store, ids) == [("succeeded", None)] * 2


def test_questions_for_another_checkpoint_are_left_to_others(
    analyst: Analyst, store: Store, registered, mind
):
    ids = registered("a", fingerprint="another")
    assert not analyst.work()
    assert _states(store, ids) == [("queued", None)]
    assert mind.asked == []


def test_what_another_process_took_over_is_left_to_it(
    analyst: Analyst, store: Store, registered, mind, found, caplog
):
    def lose() -> object:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE analyses SET fence = fence + 1 WHERE question = 'a'"))
        return found("a")

    mind.answers["a"] = lose
    ids = registered("a", "b")
    analyst.work()
    assert _states(store, ids) == [("running", None), ("succeeded", None)]
    assert "taken over" in caplog.text


def test_a_cancelled_analysis_stops_at_its_next_stage(
    analyst: Analyst, store: Store, registered, mind, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.heartbeat.LOOK_SECONDS", 0.0)
    ids = registered("a", "b")
    mind.answers["a"] = lambda: store.analyses.cancel([ids[1]])  # and gives no result
    analyst.work()
    assert _states(store, ids)[1] == ("cancelled", None)
    assert mind.asked == ["a", "b"]


def test_a_database_that_is_gone_for_longer_than_a_lease_ends_the_work(
    store: Store, settings: Settings, registered, mind, found
):
    def lose() -> object:
        with store.engine.begin() as connection:
            connection.execute(text("ALTER TABLE analyses RENAME TO lost"))
        return found("a")

    mind.answers["a"] = lose
    registered("a", "b")
    with pytest.raises(DatabaseUnusable):
        Analyst(mind, store, settings.changed(lease_seconds=0.1), _silent).work()
    assert mind.asked == ["a"]


def test_a_database_that_is_away_for_a_moment_costs_nothing(
    analyst: Analyst, store: Store, registered, mind, found, caplog
):
    def _move(old: str, new: str) -> None:
        with store.engine.begin() as connection:
            connection.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    def lose() -> object:
        _move("moments", "lost")
        threading.Timer(0.2, _move, ("lost", "moments")).start()
        return found("a")

    mind.answers["a"] = lose
    ids = registered("a", "b")
    analyst.work()
    assert _states(store, ids) == [("succeeded", None)] * 2
    assert "waits for the database" in caplog.text


def test_progress_is_told_and_kept_in_the_row(
    store: Store, registered, mind, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.heartbeat.LOOK_SECONDS", 0.0)
    told = []
    ids = registered("a")

    def tell(claim, reached: Progress) -> None:
        standing = store.queues.standings()[0]
        told.append((claim.analysis_id, reached.stage, reached.fraction, standing.stage, standing.progress))
        assert abs((standing.eta - standing.started_at).total_seconds() - reached.seconds_left) < 60

    Analyst(mind, store, settings, tell).work()
    assert told == [(ids[0], "grounder", 0.5, "grounder", 0.5)]
    assert store.queues.standings()[0].progress == 1.0


def test_the_next_video_is_opened_while_this_one_is_worked_on(
    store: Store, registered, other, mind, settings: Settings, found
):
    registered("a")
    other("b")
    prefetched, done = [], threading.Event()

    def prefetch(reader, content_hash: str) -> None:
        prefetched.append((Path(reader.info.path).name, content_hash, list(mind.asked)))
        done.set()

    def take_time() -> object:
        assert done.wait(30)
        return found("a")

    mind.prefetch, mind.answers["a"] = prefetch, take_time
    analyst = Analyst(mind, store, settings, _silent)
    analyst.work()
    analyst.work()
    assert [name for name, _, _ in prefetched] == ["other.mp4"]
    assert "b" not in prefetched[0][2]
    assert mind.asked == ["a", "b"]
    # By its content the model knows what it has seen before.
    assert mind.hashes[0] != mind.hashes[1] == prefetched[0][1]
