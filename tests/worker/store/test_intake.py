from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from tests.worker.store.conftest import ATTEMPTS, MINUTES, read
from vm.errors import UnsupportedMedia
from vm.moments import Span
from vm.result import VideoFacts
from vm.subtitles import Cue
from worker.errors import Cancelled, Quarantined
from worker.jobs import AskSettings, Claim, Progress, Request, Submission
from worker.store import Checked, Store
from worker.store.browse import Wanted

FACTS = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)
EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FINGERPRINT = "f" * 64


def _checked(sha256: str = "a" * 64, **how: object) -> Checked:
    return Checked(sha256, 1000, FACTS, **how)


@pytest.fixture
def intake(store: Store):
    """An intake of one question, in work."""
    accepted = store.submissions.add(Submission("one", "file:///videos/door.mp4", (Request("Who?"),)))
    return store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)


def test_the_same_question_is_one_analysis_however_often_it_is_submitted(registered, counted):
    assert registered("Who?") == registered("Who?") == registered("Who?", "Who?")[:1]
    assert counted("videos", "analyses", "submissions") == [1, 1, 3]


def test_another_question_mode_setting_option_or_subtitle_is_another_analysis(registered):
    others = [
        Request("Why?"),
        Request("Who?", ("yes", "no")),
        Request("Who?", mode="ground"),
        Request("Who?", settings=AskSettings(window=None)),
        Request("Who?", subtitles=(Cue(Span(0, 1), "hello"),)),
    ]
    assert len({*registered("Who?"), *registered(*others)}) == 6


def test_another_checkpoint_or_another_video_is_another_analysis(registered, counted):
    assert (
        len({*registered("Who?"), *registered("Who?", fingerprint="g"), *registered("Who?", sha256="b")}) == 3
    )
    assert counted("videos") == [2]


def test_a_forced_run_is_a_new_analysis_and_only_one(registered):
    first = registered("Who?")
    again = registered("Who?", key="again", force=True)
    assert again != first
    assert registered("Who?", force=True) not in (first, again)


def test_a_forced_run_that_is_taken_in_twice_is_one_analysis(store: Store, registered):
    first = registered("Who?", key="again", force=True)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE submissions SET state = 'queued'")
    again = store.submissions.claim("registrar", MINUTES, ATTEMPTS)
    assert store.intakes.register(again, _checked(), FINGERPRINT) == first


def test_a_video_at_a_new_place_is_the_same_one_and_found_there(registered, claim, counted):
    first = registered("Who?")
    assert registered("Who?", uri="https://example.org/moved.mp4") == first
    assert claim()[0].uri == "https://example.org/moved.mp4"
    assert counted("videos") == [1]


@pytest.mark.parametrize("known", [False, True])
def test_what_was_submitted_many_times_at_once_is_one_analysis_each(
    store: Store, registered, counted, known: bool
):
    """Everybody registers the same video, the questions in another order."""
    together = Barrier(4)
    if known:
        how = {"uri": "file:///door.mp4", "facts": FACTS, "collection": "depot", "source": "gate"}
        registered("question 0", **how)

    def register(number: int) -> dict[str, int]:
        questions = [f"question {(n * (1 + 2 * number)) % 8}" for n in range(8)]
        submission = Submission(
            f"{number}", "file:///door.mp4", tuple(map(Request, questions)), "depot", "gate"
        )
        accepted = store.submissions.add(submission)
        taken = store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)
        together.wait()
        return dict(zip(questions, store.intakes.register(taken, _checked(), FINGERPRINT), strict=True))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(register, range(4)))
    assert all(ids == found[0] for ids in found)
    assert counted("videos", "analyses", "sources", "collections") == [1, 8, 1, 1]


def test_one_key_added_many_times_at_once_is_one_submission(store: Store, counted):
    submission = Submission("one", "file:///door.mp4", (Request("Who?"), Request("Why?")))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: store.submissions.add(submission), range(8)))
    assert all(accepted == found[0] for accepted in found)
    assert counted("submissions", "requests") == [1, 2]


def test_what_failed_is_queued_again_and_what_is_answered_is_not(store: Store, registered, claim, result):
    ids = registered("good", "bad")
    good, bad = claim()
    store.analyses.finish(good, result)
    store.analyses.fail(bad, UnsupportedMedia("no"), ATTEMPTS)
    assert registered("good", "bad") == ids
    assert [(one.analysis_id, one.attempts, one.lease.fence) for one in claim()] == [(ids[1], 1, 2)]


def test_a_question_asked_again_with_more_urgency_is_more_urgent(registered, sql):
    registered("Who?", priority=3)
    registered("Who?", priority=8)
    registered("Who?", priority=1)
    assert sql("SELECT priority FROM analyses") == [(8,)]


def test_a_question_asked_again_while_it_is_being_cancelled_is_answered(store: Store, registered, claim):
    ids = registered("Who?")
    first = claim()[0]
    store.analyses.cancel(ids)
    registered("Who?")
    assert not store.analyses.report(first.lease, Progress("grounder", 0.5, 60.0))


def test_a_cancellation_that_comes_too_late_leaves_the_question_waiting(store: Store, registered, claim):
    ids = registered("Who?")
    first = claim()[0]
    store.analyses.cancel(ids)
    registered("Who?")
    assert store.analyses.end_cancelled(first)
    assert claim()[0].analysis_id == ids[0]


def test_the_facts_of_the_file_are_kept(registered, sql):
    registered("Who?", facts=FACTS)
    assert sql(
        "SELECT state, duration, frame_rate, frame_count, width, height, codec, rotation, start_time, "
        "size_bytes, crashes FROM videos"
    ) == [("readable", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0, 1000, 0)]


def test_a_video_belongs_to_its_source_and_that_to_its_collection(registered, sql):
    registered("a", sha256="1", collection="depot", source="gate")
    registered("a", sha256="2", collection="depot", source="yard")
    registered("a", sha256="3", collection="campus", source="gate")
    registered("a", sha256="4")
    assert sql(
        "SELECT collections.name, sources.name FROM videos LEFT JOIN sources ON sources.id = source_id "
        "LEFT JOIN collections ON collections.id = collection_id ORDER BY videos.id"
    ) == [("depot", "gate"), ("depot", "yard"), ("campus", "gate"), (None, None)]


def _places(sql) -> list[tuple]:
    return sql(
        "SELECT collections.name, sources.name FROM videos JOIN sources ON sources.id = source_id "
        "JOIN collections ON collections.id = collection_id ORDER BY videos.id"
    )


def test_without_a_source_a_video_belongs_to_its_collection_all_the_same(
    store: Store, registered, claim, result, sql, counted
):
    registered("a", sha256="1", collection="depot")
    registered("a", sha256="2", collection="depot")
    assert _places(sql) == [("depot", "")] * 2
    assert counted("sources") == [1]
    store.analyses.finish(claim()[0], result)
    assert len(store.browse.moments(Wanted(collection="depot"), 1, None).values) == 1


def test_a_source_that_is_known_is_not_forgotten_where_only_its_collection_is_named(registered, sql):
    registered("a", collection="depot", source="gate")
    registered("b", collection="depot")
    assert _places(sql) == [("depot", "gate")]
    registered("c", collection="campus")
    assert _places(sql) == [("campus", "")]
    registered("d", collection="campus", source="hall")
    registered("e")
    assert _places(sql) == [("campus", "hall")]


def _instants(sql) -> list[tuple[str, float, object]]:
    return [
        (table, *row)
        for table in ("candidates", "moments", "answers", "coverage")
        for row in sql(f"SELECT start_seconds, starts_at, end_seconds, ends_at FROM {table}")
    ]


def test_every_span_has_its_instants_where_the_start_of_the_recording_is_known(
    store: Store, registered, claim, result, sql
):
    registered("Who?", recorded_at=EIGHT)
    store.analyses.finish(claim()[0], result)
    found = _instants(sql)
    assert len(found) == 2 + 2 + 1 + 2
    for _, start, starts_at, end, ends_at in found:
        assert read(starts_at) == EIGHT + timedelta(seconds=start)
        assert read(ends_at) == EIGHT + timedelta(seconds=end)


def test_a_start_that_becomes_known_later_gives_instants_to_what_was_found_before(
    store: Store, registered, claim, result, sql
):
    registered("Who?")
    store.analyses.finish(claim()[0], result)
    assert {row[2] for row in _instants(sql)} == {None}
    registered("Why?", recorded_at=EIGHT)
    for _, start, starts_at, end, ends_at in _instants(sql):
        assert read(starts_at) == EIGHT + timedelta(seconds=start)
        assert read(ends_at) == EIGHT + timedelta(seconds=end)


def test_what_somebody_said_outweighs_what_a_file_says(store: Store, intake, sql):
    def register(key: str, hour: int, origin: str) -> None:
        accepted = store.submissions.add(Submission(key, "file:///a.mp4", (Request("Who?"),)))
        taken = store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)
        checked = _checked(recorded_at=EIGHT.replace(hour=hour), recorded_at_origin=origin)
        store.intakes.register(taken, checked, FINGERPRINT)

    seen = []
    for hour, origin in ((1, "container"), (2, "filename"), (3, "argument"), (4, "container")):
        register(f"{hour}", hour, origin)
        ((instant, told),) = sql("SELECT recorded_at, recorded_at_origin FROM videos")
        seen.append((read(instant).hour, told))
    assert seen == [(1, "container"), (1, "container"), (3, "argument"), (3, "argument")]


def test_a_file_that_claims_to_last_for_ever_has_no_instants_there(
    store: Store, registered, claim, result, sql
):
    registered("Who?", recorded_at=EIGHT, facts=replace(FACTS, duration=1e15))
    endless = replace(result, windows=(), video=replace(FACTS, duration=1e15))
    assert store.analyses.finish(claim()[0], endless)
    assert sql("SELECT starts_at IS NULL, ends_at IS NULL FROM coverage") == [(False, True)]
    assert sql("SELECT starts_at IS NULL, ends_at IS NULL FROM coverage_gap_view") == [(False, True)]


def test_a_file_that_cannot_be_opened_is_known_as_such_until_it_can(store: Store, intake, registered, sql):
    store.intakes.record_unreadable(intake, "a" * 64, 7, UnsupportedMedia("no video"))
    seen = "SELECT state, error_code, error_message, size_bytes FROM videos"
    assert sql(seen) == [("unreadable", "unsupported_media", "no video", 7)]
    registered("Who?")
    assert sql(seen) == [("readable", None, None, 1000)]


def test_who_lost_the_work_registers_nothing(store: Store, intake, counted, sql):
    sql("UPDATE submissions SET fence = fence + 1")
    assert store.intakes.register(intake, _checked(), FINGERPRINT) is None
    assert counted("videos", "analyses") == [0, 0]


def test_a_submission_is_registered_once(store: Store, intake, counted):
    assert store.intakes.register(intake, _checked(), FINGERPRINT)
    assert store.intakes.register(intake, _checked(), FINGERPRINT) is None
    assert counted("videos", "analyses") == [1, 1]


def test_what_was_cancelled_meanwhile_is_not_registered(store: Store, intake, counted):
    store.submissions.cancel([intake.lease.id])
    with pytest.raises(Cancelled):
        store.intakes.register(intake, _checked(), FINGERPRINT)
    assert counted("videos", "analyses") == [0, 0]


def test_what_is_asked_of_a_quarantined_video_is_refused(store: Store, registered, intake, counted, claim):
    registered("Why?")
    store.analyses.record_crash(claim()[0].video_id, most=1)
    with pytest.raises(Quarantined, match="killed its process 1 times"):
        store.intakes.register(intake, _checked(), FINGERPRINT)
    store.intakes.record_unreadable(intake, "a" * 64, 7, UnsupportedMedia("no video"))
    assert counted("analyses WHERE state = 'queued'", "videos WHERE state = 'quarantined'") == [0, 1]


def test_a_claim_holds_what_was_asked(registered, claim):
    request = Request(
        "Où?", ("a", "ü"), "ground", AskSettings(None, 4.5), (Cue(Span(0.5, 1.5), "Hallo\nWelt"),)
    )
    registered(request)
    taken: Claim = claim()[0]
    assert (taken.request, taken.uri, taken.sha256) == (request, "file:///videos/door.mp4", "a" * 64)
