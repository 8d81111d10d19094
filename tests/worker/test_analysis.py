from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from vm.errors import DecodeTimeout, QuestionError
from worker import analysis
from worker.errors import DatabaseUnusable
from worker.jobs import Request
from worker.media import identify
from worker.store import Store


def _silent(*_: object) -> None:
    """Nobody watches."""


def _raise(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _states(store: Store, ids: list[int]) -> list[tuple[str, str | None]]:
    return [(outcome.state, outcome.error_code) for outcome in store.outcomes(ids)]


def test_questions_on_one_video_share_one_opening(store: Store, submitted, mind):
    ids = [submitted("a"), submitted("b")]
    analysis.run(ids, mind, store, _silent)
    assert len(mind.opened) == 1
    assert [outcome.result.question for outcome in store.outcomes(ids)] == ["a", "b"]


def test_every_video_is_opened_for_its_own_questions(store: Store, submitted, mind, tmp_path: Path, encode):
    other = identify(encode(tmp_path / "other.mp4", seed=1))
    ids = [submitted("a"), store.submit(other, Request("b"), mind.fingerprint), submitted("c")]
    analysis.run(ids, mind, store, _silent)
    assert mind.asked == ["a", "c", "b"]
    assert [path.name for path in mind.opened] == ["door.mp4", "other.mp4"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QuestionError("too long"), "bad_question"),
        (DecodeTimeout("too slow"), "decode_timeout"),
        (MemoryError("all gone"), "internal_error"),
    ],
)
def test_a_failed_question_does_not_stop_the_others(
    store: Store, submitted, mind, error: Exception, code: str
):
    mind.answers["bad"] = _raise(error)
    ids = [submitted("bad"), submitted("good")]
    analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("failed", code), ("succeeded", None)]
    assert str(error) in store.outcomes(ids)[0].error_message


def test_a_video_that_cannot_be_opened_fails_all_its_questions_and_no_others(
    store: Store, submitted, mind, tmp_path: Path
):
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    bad = identify(tmp_path / "bad.mp4")
    ids = [store.submit(bad, Request(q), mind.fingerprint) for q in ("a", "b")] + [submitted("c")]
    analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("failed", "unsupported_media")] * 2 + [("succeeded", None)]
    with store.engine.begin() as connection:
        rows = connection.execute(text("SELECT state, error_code, width FROM videos ORDER BY id")).all()
    assert rows == [("unreadable", "unsupported_media", None), ("readable", None, 64)]


def test_a_result_that_cannot_be_stored_is_a_failure_of_that_question(store: Store, submitted, mind, found):
    result = found("bad")
    mind.answers["bad"] = lambda: replace(result, moments=result.moments * 2)
    ids = [submitted("bad"), submitted("good")]
    analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("failed", "internal_error"), ("succeeded", None)]


def test_an_interruption_hands_back_what_is_not_finished(store: Store, submitted, mind):
    mind.answers["b"] = _raise(KeyboardInterrupt())
    ids = [submitted("a"), submitted("b"), submitted("c")]
    with pytest.raises(KeyboardInterrupt):
        analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("succeeded", None), ("queued", None), ("queued", None)]


def test_the_work_goes_on_where_it_was_interrupted(store: Store, submitted, mind):
    mind.answers["b"] = _raise(KeyboardInterrupt())
    ids = [submitted("a"), submitted("b")]
    with pytest.raises(KeyboardInterrupt):
        analysis.run(ids, mind, store, _silent)
    del mind.answers["b"]
    analysis.run(ids, mind, store, _silent)
    assert mind.asked == ["a", "b", "b"]
    assert _states(store, ids) == [("succeeded", None)] * 2


def test_a_question_for_another_checkpoint_is_not_answered_with_this_one(store: Store, source, mind):
    ids = [store.submit(source, Request("a"), "another")]
    analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("failed", "wrong_checkpoint")]
    assert mind.asked == []


def test_what_another_process_took_over_is_left_to_it(store: Store, submitted, mind, found, caplog):
    def lose() -> object:
        with store.engine.begin() as connection:
            connection.execute(text("UPDATE analyses SET attempts = attempts + 1 WHERE question = 'a'"))
        return found("a")

    mind.answers["a"] = lose
    ids = [submitted("a"), submitted("b")]
    analysis.run(ids, mind, store, _silent)
    assert _states(store, ids) == [("running", None), ("succeeded", None)]
    assert "taken over" in caplog.text


def test_a_database_that_is_gone_ends_the_work(store: Store, submitted, mind, found):
    def lose() -> object:
        with store.engine.begin() as connection:
            connection.execute(text("ALTER TABLE analyses RENAME TO lost"))
        return found("a")

    mind.answers["a"] = lose
    with pytest.raises(DatabaseUnusable):
        analysis.run([submitted("a"), submitted("b")], mind, store, _silent)
    assert mind.asked == ["a"]


def test_progress_is_told_with_its_analysis(store: Store, submitted, mind):
    told = []
    ids = [submitted("a")]
    analysis.run(ids, mind, store, lambda claim, *rest: told.append((claim.analysis_id, *rest)))
    assert told == [(ids[0], "grounder", 0.5)]
