from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from vm.errors import NoFrames
from vm.result import Result
from worker import store as store_module
from worker.errors import DatabaseUnusable
from worker.jobs import AskSettings, Claim, Request
from worker.media import Source, identify
from worker.store import Store

CHILDREN = ("candidates", "moments", "answers")


def _one(store: Store, statement: str) -> tuple:
    with store.engine.begin() as connection:
        return tuple(connection.execute(text(statement)).one())


def _count(store: Store, table: str) -> int:
    return _one(store, f"SELECT count(*) FROM {table}")[0]


def test_the_same_submission_is_one_analysis(store: Store, submitted: Callable[..., int]):
    assert submitted() == submitted()
    assert _count(store, "analyses") == _count(store, "videos") == 1


def test_another_question_mode_or_setting_is_another_analysis(submitted: Callable[..., int]):
    ids = {
        submitted(),
        submitted("Why?"),
        submitted(options=("yes", "no")),
        submitted(mode="ground"),
        submitted(settings=AskSettings(window=None)),
    }
    assert len(ids) == 5


def test_another_checkpoint_is_another_analysis(store: Store, source: Source):
    request = Request("Who comes in?")
    assert store.submit(source, request, "old") != store.submit(source, request, "new")


def test_a_moved_video_is_the_same_one_and_found_at_its_new_place(
    store: Store, submitted: Callable[..., int], video: Path, tmp_path: Path
):
    first = submitted()
    moved = identify(Path(copyfile(video, tmp_path / "moved.mp4")))
    assert store.submit(moved, Request("Who comes in?"), "f" * 64) == first
    assert store.claim([first])[0].uri == moved.uri


def test_only_one_of_two_claims_is_granted(store: Store, submitted: Callable[..., int], url: str):
    analysis_id = submitted()
    with Store(url) as other:
        assert [claim.attempt for claim in store.claim([analysis_id])] == [1]
        assert other.claim([analysis_id]) == []


def test_a_claim_holds_what_was_submitted(store: Store, submitted: Callable[..., int]):
    how = {
        "options": ("a", "ü"),
        "mode": "ground",
        "settings": AskSettings(window=None, min_answer_seconds=4.5),
    }
    assert store.claim([submitted("Où?", **how)])[0].request == Request("Où?", **how)


def test_a_finished_analysis_gives_back_the_result(
    store: Store, claimed: Claim, found: Callable[..., Result]
):
    result = found("Who comes in?")
    store.record_facts(claimed.video_id, result.video)
    assert store.finish(claimed, result)
    outcome = store.outcomes([claimed.analysis_id])[0]
    assert outcome.state == "succeeded"
    assert replace(outcome.result, video=result.video) == result
    assert outcome.to_dict()["moments"] == result.to_dict()["moments"]


def test_an_answered_question_is_not_claimed_again(
    store: Store, claimed: Claim, submitted: Callable[..., int], found: Callable[..., Result]
):
    store.record_facts(claimed.video_id, found("q").video)
    store.finish(claimed, found("Who comes in?"))
    assert store.claim([submitted()]) == []


def test_a_failure_is_kept_with_its_code_and_message(store: Store, claimed: Claim):
    assert store.fail(claimed, NoFrames("door.mp4 has no frames"))
    outcome = store.outcomes([claimed.analysis_id])[0]
    assert (outcome.state, outcome.error_code, outcome.error_message) == (
        "failed",
        "no_frames",
        "door.mp4 has no frames",
    )


def test_what_failed_and_is_submitted_again_is_tried_again(
    store: Store, claimed: Claim, submitted: Callable[..., int]
):
    store.fail(claimed, NoFrames("no frames"))
    again = store.claim([submitted()])[0]
    assert (again.analysis_id, again.attempt) == (claimed.analysis_id, 2)
    assert _one(store, "SELECT error_code, error_message, finished_at FROM analyses") == (None, None, None)


def test_what_was_handed_back_can_be_claimed_again(store: Store, claimed: Claim):
    store.release([claimed])
    assert store.claim([claimed.analysis_id])[0].attempt == 2


def test_handing_back_does_not_touch_what_has_ended(store: Store, claimed: Claim):
    store.fail(claimed, NoFrames("no frames"))
    store.release([claimed])
    assert store.outcomes([claimed.analysis_id])[0].state == "failed"


def test_a_dead_process_loses_its_claim_and_cannot_write_any_more(
    store: Store, claimed: Claim, found: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store_module, "ABANDONED_AFTER", -store_module.ABANDONED_AFTER)
    successor = store.claim([claimed.analysis_id])[0]
    assert successor.attempt == 2
    assert not store.finish(claimed, found("Who comes in?"))
    assert not store.fail(claimed, NoFrames("no frames"))
    store.release([claimed])
    assert _one(store, "SELECT state, attempts FROM analyses") == ("running", 2)
    assert [_count(store, table) for table in CHILDREN] == [0, 0, 0]


def test_a_result_that_cannot_be_stored_leaves_nothing_behind(
    store: Store, claimed: Claim, found: Callable[..., Result]
):
    result = found("Who comes in?")
    two_firsts = replace(result, moments=(result.moments[0], result.moments[0]))
    with pytest.raises(IntegrityError):
        store.finish(claimed, two_firsts)
    assert _one(store, "SELECT state, plan FROM analyses") == ("running", None)
    assert [_count(store, table) for table in CHILDREN] == [0, 0, 0]


def test_deleting_a_video_deletes_all_that_was_found_in_it(
    store: Store, claimed: Claim, found: Callable[..., Result]
):
    store.finish(claimed, found("Who comes in?"))
    with store.engine.begin() as connection:
        connection.execute(text("DELETE FROM videos"))
    assert [_count(store, table) for table in ("analyses", *CHILDREN)] == [0, 0, 0, 0]


def test_outcomes_come_in_the_order_asked_for(store: Store, submitted: Callable[..., int]):
    first, second = submitted("a"), submitted("b")
    assert [o.analysis_id for o in store.outcomes([second, 999, first])] == [second, first]


def test_the_moment_view_shows_moment_question_and_answer_in_one_row(
    store: Store, claimed: Claim, found: Callable[..., Result]
):
    store.finish(claimed, found("Who comes in?"))
    seen = _one(
        store, "SELECT question, query, start_seconds, verifier_score, answer FROM moment_view WHERE rank = 1"
    )
    assert seen == ("Who comes in?", "a door opens", 1.0, 0.7, "through the door")


def test_a_lost_table_is_an_unusable_database(store: Store, submitted: Callable[..., int]):
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE analyses RENAME TO lost"))
    with pytest.raises(DatabaseUnusable, match="no such table"):
        submitted()
