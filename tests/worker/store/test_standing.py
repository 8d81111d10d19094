"""Standing questions: which videos they are put to, and what they wait for becomes hits."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.worker.store.conftest import MINUTES, read
from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Result, VideoFacts, Window
from worker.errors import InvalidRule
from worker.events import Stretch, events, is_border
from worker.jobs import Claim, Request, Submission
from worker.standing import Hit, Standing
from worker.store import Checked, Store, asking
from worker.tables import Video

FACTS = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)
EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
FINGERPRINT = "f" * 64
STANDING = Standing("Who climbs the fence?", "depot")
URL = "https://alarm.example/hits"
Seen = tuple[float, float, float]
"""Start, end and score of a moment."""


@pytest.fixture
def film(store: Store) -> Callable[..., list[int]]:
    """Hands in a video of the depot's gate, and gives the ids of what is asked of it: its own questions, then
    the standing ones. `film("name", "Who?", minute=1, collection=…, source=…)`"""

    def submit(
        name: str,
        *questions: str,
        minute: float | None = 0.0,
        collection: str | None = "depot",
        source: str | None = "gate",
        **how: object,
    ) -> list[int]:
        recorded = None if minute is None else EIGHT + timedelta(minutes=minute)
        requests = tuple(map(Request, questions))
        key = how.pop("key", f"{name} {collection} {source} {questions}")
        submission = Submission(key, f"file:///{name}.mp4", requests, collection, source, **how)
        accepted = store.submissions.add(submission)
        intake = store.submissions.claim_one(accepted.submission_id, "registrar", MINUTES)
        checked = Checked(f"{name:0>64}", 1000, FACTS, recorded, "argument" if recorded else None)
        return store.intakes.register(intake, checked, FINGERPRINT)

    return submit


@pytest.fixture
def saw(result: Result) -> Callable[..., Result]:
    """A result with these moments, each `(start, end, score)`, the best first."""

    def make(*seen: Seen, answer: str = "a man", fallback: bool = False, windows: tuple = ()) -> Result:
        candidates = [Candidate(Span(a, b), 0.4, fallback, 0.6, 0.3, score) for a, b, score in seen]
        moments = tuple(Moment(one, rank, "fence") for rank, one in enumerate(candidates, start=1))
        spans = tuple(Window(Span(*window), 5, 0.5) for window in windows)
        said = Answer(answer, None, Span(0.0, 60.0))
        return replace(
            result, candidates=tuple(candidates), moments=moments, answer=said, video=FACTS, windows=spans
        )

    return make


@pytest.fixture
def watch(store: Store, film, saw) -> Callable[..., None]:
    """A video of one minute in which this is seen: `watch("name", (1, 2, 0.6), …, minute=…)`"""

    def submit(name: str, *seen: Seen, answer: str = "a man", windows: tuple = (), **how: object) -> None:
        ids = film(name, **how)
        for claim in store.analyses.claim_these(ids, "worker", FINGERPRINT, MINUTES):
            assert store.analyses.finish(claim, saw(*seen, answer=answer, windows=windows))

    return submit


def _hits(store: Store) -> list[Hit]:
    return store.hits.latest()


# Which videos are asked.


def test_a_new_video_is_asked_what_stands_in_one_group_with_its_own_questions(store: Store, film, claim):
    store.standing.add(STANDING)
    ids = film("a", "Who?", priority=7)
    claims: list[Claim] = claim()
    assert [one.analysis_id for one in claims] == ids
    assert [one.request for one in claims] == [Request("Who?"), STANDING.request]


def test_a_video_without_questions_of_its_own_is_asked_what_stands(store: Store, film, claim, sql):
    store.standing.add(STANDING)
    (asked,) = film("a", callback_url="https://example.org/told")
    assert [one.analysis_id for one in claim()] == [asked]
    call = store.callbacks.take_due(MINUTES)
    assert (call.body["state"], call.body["analyses"]) == ("succeeded", [])
    assert sql("SELECT priority FROM analyses") == [(5,)]


@pytest.mark.parametrize(
    ("change", "how", "asked"),
    [
        ({}, {}, True),
        ({}, {"source": None}, True),
        ({}, {"collection": "campus"}, False),
        ({}, {"collection": None, "source": None}, False),
        ({"source": "gate"}, {}, True),
        ({"source": "gate"}, {"source": "yard"}, False),
        ({"source": "gate"}, {"source": None}, False),
        ({"active_from": EIGHT}, {}, True),
        ({"active_from": EIGHT}, {"minute": -1}, False),
        ({"active_until": EIGHT}, {"minute": -1}, True),
        ({"active_until": EIGHT}, {}, False),
        ({"active_until": EIGHT}, {"minute": None}, False),  # it came after that
        ({"hours": "22:00-06:00"}, {}, True),
    ],
)
def test_only_videos_it_is_about_are_asked(store: Store, film, change: dict, how: dict, asked: bool):
    store.standing.add(replace(STANDING, **change))
    assert bool(film("a", **how)) is asked
    collection, source = ({"collection": "depot", "source": "gate"} | how)["collection"], None
    source = ({"source": "gate"} | how)["source"]
    if not {"active_from", "active_until"} & change.keys():
        assert store.standing.would_ask(collection, source) is asked


def test_what_is_switched_off_is_not_asked(store: Store, film):
    first, second = store.standing.add(STANDING, enabled=False), store.standing.add(STANDING)
    store.standing.enable([second], False)
    assert film("a") == []
    store.standing.enable([first], True)
    assert len(film("b")) == 1
    assert [(kept.id, kept.enabled) for kept in store.standing.all()] == [(first, True), (second, False)]


def test_one_that_is_of_no_use_any_more_holds_up_no_video_and_is_named(
    store: Store, film, saw, claim, sql, caplog: pytest.LogCaptureFixture
):
    bad, good = (store.standing.add(replace(STANDING, question=text)) for text in ("Who falls?", "Who runs?"))
    film("before")
    sql(
        "UPDATE standing_questions SET time_zone = 'Mars/Olympus', hours = '1:00-2:00' WHERE id = :id", id=bad
    )
    for one in claim():
        assert store.analyses.finish(one, saw((1, 2, 0.9)))
    assert [hit.question for hit in _hits(store)] == ["Who runs?"]
    assert len(film("after", "Who comes in?")) == 2
    assert f"standing question {bad}: no time zone 'Mars/Olympus'" in caplog.text
    with pytest.raises(InvalidRule, match=rf"standing question {bad}: .* Remove it, and add it anew"):
        store.standing.all()
    store.standing.remove([bad])
    assert [kept.id for kept in store.standing.all()] == [good]


def test_what_is_handed_in_twice_is_asked_once(store: Store, film, counted):
    store.standing.add(STANDING)
    assert film("a") == film("a", key="again") == film("a", key="once more", force=True)
    assert counted("analyses", "standing_analyses") == [1, 1]


def test_a_question_that_stands_and_is_asked_is_one_analysis(store: Store, film, counted):
    store.standing.add(replace(STANDING, mode="auto"))
    store.standing.add(replace(STANDING, mode="auto", threshold=0.6))
    assert film("a", STANDING.question, "Who?") == [1, 2]
    assert counted("analyses", "standing_analyses") == [2, 2]


def test_what_was_answered_before_anybody_waited_for_it_is_a_hit_at_once(store: Store, film, saw, claim):
    film("a", STANDING.question, collection=None, source=None)
    store.analyses.finish(claim()[0], saw((1, 2, 0.6)))
    store.standing.add(replace(STANDING, mode="auto"))
    assert _hits(store) == []
    film("a")
    film("a", key="again")
    assert [hit.score for hit in _hits(store)] == [0.6]


def test_many_that_register_one_video_at_once_ask_what_stands_once(store: Store, film, counted):
    for number in range(3):
        store.standing.add(replace(STANDING, question=f"standing {number}"))
    together = Barrier(4)

    def register(number: int) -> list[int]:
        together.wait()
        return film("a", f"own {number % 2}", key=f"{number}")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(register, range(4)))
    assert len({tuple(sorted(ids[1:])) for ids in found}) == 1
    assert counted("analyses", "standing_analyses") == [5, 3]


# What is kept of them.


def test_what_was_added_is_listed_as_it_was_given(store: Store):
    standing = Standing(
        "Où?", "depot", "gate", ("a", "ü"), "auto", threshold=0.6, active_from=EIGHT, hours="22:00-06:00",
        time_zone="Europe/Berlin", webhook_url=URL,
    )  # fmt: skip
    store.standing.add(standing)
    ((kept, hits),) = [(kept.standing, kept.hits) for kept in store.standing.all()]
    assert (kept, hits) == (standing, 0)
    assert store.standing.is_known("depot", "gate")
    assert not store.standing.is_known("depot", "yard")


def test_what_is_removed_takes_its_hits_along_and_leaves_its_analyses(store: Store, watch, counted):
    first = store.standing.add(STANDING)
    watch("a", (1, 2, 0.6))
    assert [kept.hits for kept in store.standing.all()] == [1]
    store.standing.remove([first])
    assert counted("standing_questions", "standing_analyses", "hits", "sightings", "analyses") == [
        0,
        0,
        0,
        0,
        1,
    ]


@pytest.mark.parametrize("change", [Store, None])
def test_what_does_not_exist_is_told_and_nothing_is_changed(store: Store, change):
    first = store.standing.add(STANDING)
    with pytest.raises(InvalidRule, match="no standing question 99"):
        store.standing.enable([first, 99], False) if change else store.standing.remove([first, 99])
    assert [kept.enabled for kept in store.standing.all()] == [True]


# What is a hit.


def test_every_moment_that_scores_high_enough_at_the_right_time_is_a_hit(store: Store, watch):
    store.standing.add(replace(STANDING, threshold=0.6, hours="08:00-08:01"))
    watch("a", (10, 12, 0.7), (20, 22, 0.6), (30, 32, 0.59), answer="two men")
    watch("late", (10, 12, 0.7), minute=30)
    watch("timeless", (10, 12, 0.65), minute=None)
    found = [(hit.uri, hit.span.start, hit.score, hit.answer) for hit in _hits(store)]
    assert found == [
        ("file:///a.mp4", 10.0, 0.7, "two men"),
        ("file:///a.mp4", 20.0, 0.6, "two men"),
        ("file:///timeless.mp4", 10.0, 0.65, "a man"),
    ]
    first = _hits(store)[0]
    assert (first.collection, first.source, first.question) == ("depot", "gate", STANDING.question)
    assert (first.starts_at, first.ends_at) == (EIGHT + timedelta(seconds=10), EIGHT + timedelta(seconds=12))
    assert (first.delivery_state, first.attempts) == ("none", 0)


def test_what_was_not_verified_counts_by_its_confidence_and_what_stands_in_not_at_all(
    store: Store, film, saw, claim
):
    store.standing.add(replace(STANDING, threshold=0.4))
    film("a")
    film("b")
    unverified = saw((1, 2, None))
    store.analyses.finish(claim()[0], unverified)
    store.analyses.finish(claim()[0], saw((1, 2, 0.9), fallback=True))
    assert [hit.score for hit in _hits(store)] == [0.4]


def test_what_nobody_waits_for_is_no_hit(store: Store, watch, film, saw, claim):
    first = store.standing.add(STANDING)
    film("a")
    (asked,) = claim()
    store.standing.enable([first], False)
    store.analyses.finish(asked, saw((1, 2, 0.6)))
    watch("b", (1, 2, 0.6), collection="campus")
    assert _hits(store) == []


# What is one event.


def test_an_event_that_two_files_show_is_one_hit(store: Store, watch):
    store.standing.add(replace(STANDING, webhook_url=URL))
    watch("a", (50, 59.5, 0.6), minute=0)
    before = _hits(store)[0]
    store.hits.delivered(store.hits.take_due(MINUTES))
    watch("b", (0.2, 20, 0.7), minute=1, answer="a woman")
    (hit,) = _hits(store)
    assert hit.event_id == before.event_id
    assert (hit.starts_at, hit.ends_at) == (EIGHT + timedelta(seconds=50), EIGHT + timedelta(seconds=80))
    assert (hit.uri, hit.span, hit.score, hit.answer) == ("file:///b.mp4", Span(0.2, 20), 0.7, "a woman")
    assert hit.delivery_state == "delivered"
    assert store.hits.take_due(MINUTES) is None


def test_a_worse_sighting_widens_an_event_and_changes_nothing_else(store: Store, watch):
    store.standing.add(STANDING)
    watch("a", (50, 60, 0.7), minute=0)
    watch("b", (0, 20, 0.6), minute=1, answer="nobody")
    (hit,) = _hits(store)
    assert (hit.uri, hit.score, hit.answer) == ("file:///a.mp4", 0.7, "a man")
    assert hit.ends_at == EIGHT + timedelta(seconds=80)


def test_an_event_that_two_windows_of_a_file_cut_is_one_hit(store: Store, watch, sql):
    store.standing.add(STANDING)
    watch("a", (20, 30, 0.7), (30.5, 40, 0.6), windows=((0, 30), (30, 60)), minute=None)
    watch("b", (20, 30, 0.7), (30.5, 40, 0.6), windows=((0, 60),), minute=None)
    assert [hit.uri for hit in _hits(store)] == ["file:///a.mp4", "file:///b.mp4", "file:///b.mp4"]
    assert sql("SELECT sightings FROM hit_view ORDER BY hit_id") == [(2,), (1,), (1,)]


@pytest.mark.parametrize(
    "how",
    [{"source": "yard"}, {"source": None}, {"minute": 30}, {"minute": None}],
    ids=["another camera", "no camera", "another time", "no time"],
)
def test_events_that_are_not_seen_to_be_one_are_two_hits(store: Store, watch, how: dict):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.7))
    watch("b", (10, 20, 0.6), **how)
    assert len(_hits(store)) == 2


def test_cameras_nobody_has_named_share_the_clock_of_their_collection(store: Store, watch):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.7), source=None)
    watch("b", (10, 20, 0.6), source=None)
    assert len(_hits(store)) == 1


def test_one_event_is_a_hit_of_each_question_that_waits_for_it(store: Store, watch):
    ids = [store.standing.add(STANDING), store.standing.add(replace(STANDING, question="What moves?"))]
    watch("a", (10, 20, 0.7))
    watch("b", (10, 20, 0.6))
    assert [hit.standing_id for hit in _hits(store)] == ids


def test_two_events_that_a_third_sighting_joins_are_one_under_the_first_id(store: Store, watch, counted):
    store.standing.add(replace(STANDING, webhook_url=URL))
    watch("a", (10, 20, 0.6))
    watch("b", (24, 34, 0.7), answer="a woman")
    first, second = _hits(store)
    watch("c", (12, 32, 0.65))
    (hit,) = _hits(store)
    assert (hit.event_id, hit.answer) == (first.event_id, second.answer)
    assert (hit.starts_at, hit.ends_at) == (EIGHT + timedelta(seconds=10), EIGHT + timedelta(seconds=34))
    assert counted("sightings") == [3]
    assert store.hits.take_due(MINUTES).hit.event_id == first.event_id
    assert store.hits.take_due(MINUTES) is None


@pytest.mark.parametrize("seed", range(4))
def test_in_whatever_order_videos_end_their_sightings_make_the_events_there_are(
    store: Store, watch, sql, seed: int
):
    store.standing.add(STANDING)
    chance = random.Random(seed)
    seen = []
    for name in range(8):
        minute, start = chance.choice([0, 0.5, 1]), chance.choice([0, 5, 10, 48])
        end = min(60, start + chance.choice([2, 8, 12, 30]))
        watch(f"{name}", (start, end, 0.6), minute=minute)
        cuts = is_border(start, (0, 60)), is_border(end, (0, 60))
        seen.append(Stretch(minute * 60 + start, minute * 60 + end, *cuts))
    rows = sql("SELECT hit_id, analysis_id FROM sightings")
    by_hit = {frozenset(place - 1 for of, place in rows if of == hit) for hit, _ in rows}
    assert by_hit == set(map(frozenset, events(seen)))
    for hit in _hits(store):
        places = [place - 1 for of, place in rows if of == hit.id]
        assert hit.starts_at == EIGHT + timedelta(seconds=min(seen[n].start for n in places))
        assert hit.ends_at == EIGHT + timedelta(seconds=max(seen[n].end for n in places))


def test_sightings_that_end_at_the_same_time_are_one_hit(store: Store, film, saw, counted):
    for number in range(2):
        store.standing.add(replace(STANDING, question=f"standing {number}"))
    ids = [id for name in range(4) for id in film(f"{name}")]
    claims = store.analyses.claim_these(ids, "worker", FINGERPRINT, MINUTES)
    together = Barrier(4)

    def finish(name: int) -> None:
        together.wait()
        for one in claims[2 * name : 2 * name + 2]:
            assert store.analyses.finish(one, saw((10, 20, 0.6)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(finish, range(4)))
    assert counted("hits", "sightings") == [2, 8]


def test_what_comes_ends_and_is_switched_at_the_same_time_waits_for_nobody_for_ever(
    store: Store, watch, film, saw, sql
):
    ids = [store.standing.add(replace(STANDING, question=f"standing {n}", webhook_url=URL)) for n in range(3)]
    for name in range(3):
        watch(f"{name}", (10, 20, 0.6), minute=name)
    together = Barrier(4)

    def come(number: int, turn: int) -> None:
        film(f"{turn % 3}", f"own {turn}", key=f"{number} {turn}", minute=turn + number / 2)

    def end(_: int, turn: int) -> None:
        film(f"new {turn}", minute=turn)
        for one in store.analyses.claim("worker", FINGERPRINT, MINUTES, 5):
            store.analyses.finish(one, saw((turn % 40, turn % 40 + 10, 0.6)))

    def switch(_: int, turn: int) -> None:
        store.standing.enable(ids[turn % 3 :], turn % 2 == 0)

    def work(number: int) -> None:
        together.wait()
        for turn in range(10):
            (come, come, end, switch)[number](number, turn)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    reach = "SELECT min(starts_at) FROM sightings WHERE sightings.hit_id = hits.id"
    assert sql(f"SELECT count(*) FROM hits WHERE starts_at <> ({reach})") == [(0,)]
    assert sql("SELECT count(*) FROM hits") != [(0,)]


# What ends again, is asked anew, or was recorded at another time.


def _again(store: Store, sql, result: Result) -> None:
    """Has the first analysis end once more."""
    sql("UPDATE analyses SET state = 'queued' WHERE id = 1")
    (claim,) = store.analyses.claim_these([1], "worker", FINGERPRINT, MINUTES)
    assert store.analyses.finish(claim, result)


def test_what_is_found_again_replaces_what_was_found_before(store: Store, watch, saw, sql, counted):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.7), (40, 44, 0.6))
    first, _ = _hits(store)
    _again(store, sql, saw((11, 21, 0.65), (50, 54, 0.6)))
    again, other = _hits(store)
    assert (again.event_id, again.score, other.span.start) == (first.event_id, 0.7, 50)
    assert sql("SELECT rank, start_seconds FROM sightings ORDER BY rank") == [(1, 11.0), (2, 50.0)]


def test_what_somebody_was_told_of_stays_though_nothing_shows_it_any_more(store: Store, watch, saw, sql):
    store.standing.add(replace(STANDING, webhook_url=URL))
    watch("a", (10, 20, 0.7), (40, 44, 0.6))
    told = store.hits.take_due(MINUTES).hit
    _again(store, sql, saw())
    assert [hit.event_id for hit in _hits(store)] == [told.event_id]
    assert sql("SELECT sightings FROM hit_view") == [(0,)]


@pytest.fixture
def anew(store: Store, sql, saw) -> Callable[..., None]:
    """A re-indexing run has another checkpoint answer again what was asked of the first video."""

    def ask(*seen: Seen, request: Request = STANDING.request) -> None:
        sql(
            "INSERT INTO reindex_runs (state, rule, limits, fingerprint, created_at) "
            "VALUES ('running', '{}', '{}', 'g', '2026-03-01')"
        )
        (run_id,) = sql("SELECT max(id) FROM reindex_runs")[0]
        with Session(store.engine) as session, session.begin():
            video = session.scalars(select(Video).order_by(Video.id)).first()
            wanted = asking.Wanted("g" * 64, priority=1, run_id=run_id)
            (row,) = asking.ask(session, video, [request], wanted)
            session.flush()
            asked = row.id
        (claim,) = store.analyses.claim_these([asked], "worker", "g" * 64, MINUTES)
        assert store.analyses.finish(claim, saw(*seen))

    return ask


def test_what_is_asked_anew_in_a_run_is_seen_and_told_to_nobody(store: Store, watch, anew, counted):
    store.standing.add(replace(STANDING, webhook_url=URL))
    watch("a", (10, 20, 0.6))
    anew((11, 21, 0.7), (40, 44, 0.6))
    known, new = _hits(store)
    assert (known.delivery_state, known.score) == ("pending", 0.7)
    assert (new.delivery_state, new.span.start) == ("none", 40)
    assert counted("standing_analyses", "sightings") == [2, 3]


def test_what_a_run_asks_for_the_first_time_belongs_to_what_stands_by_now(store: Store, film, anew):
    film("a", "Who?")
    store.standing.add(STANDING)
    store.standing.add(replace(STANDING, source="yard"))
    anew((10, 20, 0.6), request=Request("Who?"))
    assert _hits(store) == []
    anew((10, 20, 0.6))
    assert [hit.standing_id for hit in _hits(store)] == [1]


def test_a_start_that_becomes_known_later_gives_hits_their_instants(store: Store, watch, film):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.6), minute=None)
    watch("b", (10, 20, 0.6), minute=None)
    film("a", key="again", minute=5)
    first, second = _hits(store)
    assert first.starts_at == EIGHT + timedelta(minutes=5, seconds=10)
    assert second.starts_at is None
    watch("c", (12, 20, 0.6), minute=5)
    assert len(_hits(store)) == 2


def test_a_start_that_is_corrected_moves_the_hit_that_other_videos_show_too(store: Store, watch, film):
    store.standing.add(STANDING)
    watch("a", (50, 60, 0.6), minute=0)
    watch("b", (0, 10, 0.6), minute=1)
    film("b", key="again", minute=2)
    (hit,) = _hits(store)
    assert (hit.starts_at, hit.ends_at) == (EIGHT + timedelta(seconds=50), EIGHT + timedelta(seconds=130))


def test_deleting_a_video_deletes_what_was_seen_best_in_it(store: Store, watch, sql, counted):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.6))
    sql("DELETE FROM submissions")
    sql("DELETE FROM videos")
    assert counted("hits", "sightings", "standing_analyses", "standing_questions") == [0, 0, 0, 1]


# Who is told.


@pytest.fixture
def told(store: Store, watch) -> None:
    """A hit that somebody wants to be told of."""
    store.standing.add(replace(STANDING, webhook_url=URL))
    watch("a", (10, 20, 0.6))


NOW = timedelta(0)


def test_what_somebody_is_telling_just_now_is_left_to_them_for_a_while(store: Store, told):
    first = store.hits.take_due(MINUTES)
    assert (first.url, first.attempts, first.hit.delivery_state) == (URL, 1, "pending")
    assert store.hits.take_due(MINUTES) is None


def test_two_that_look_at_once_take_each_hit_once(store: Store, told, watch):
    for name in range(6):
        watch(f"{name}", (10, 20, 0.6), minute=2 + name)
    together = Barrier(3)

    def take(_: int) -> list[int]:
        together.wait()
        taken = iter(lambda: store.hits.take_due(MINUTES), None)
        return [delivery.hit.id for delivery in taken]

    with ThreadPoolExecutor(3) as pool:
        found = Counter(id for ids in pool.map(take, range(3)) for id in ids)
    assert sorted(found.items()) == [(hit.id, 1) for hit in _hits(store)]


def test_what_was_heard_is_not_told_again(store: Store, told):
    store.hits.delivered(store.hits.take_due(NOW))
    (hit,) = _hits(store)
    assert (hit.delivery_state, hit.error) == ("delivered", None)
    assert hit.delivered_at is not None
    assert store.hits.take_due(NOW) is None


def test_who_was_slow_to_hear_nothing_does_not_undo_what_another_told(store: Store, told):
    slow = store.hits.take_due(NOW)
    store.hits.delivered(store.hits.take_due(NOW))
    store.hits.undelivered(slow, "timed out")
    assert (_hits(store)[0].delivery_state, _hits(store)[0].error) == ("delivered", None)


def test_what_was_not_heard_is_told_later_given_up_in_the_end_and_may_be_tried_again(store: Store, told, sql):
    for attempt in range(1, 11):
        delivery = store.hits.take_due(NOW)
        assert delivery.attempts == attempt
        store.hits.undelivered(delivery, f"refused {attempt}")
        assert store.hits.take_due(NOW) is None
        sql("UPDATE hits SET deliver_at = found_at WHERE deliver_at IS NOT NULL")
    (dead,) = store.hits.latest(state="dead")
    assert (dead.attempts, dead.error) == (10, "refused 10")
    assert store.hits.take_due(NOW) is None
    assert store.hits.retry([99]) == 0
    assert store.hits.retry([dead.id]) == 1
    assert store.hits.retry() == 0
    assert store.hits.take_due(NOW).attempts == 1


def test_hits_of_a_receiver_that_is_left_alone_are_passed_over(store: Store, told):
    assert store.hits.take_due(MINUTES, but=[1]) is None
    assert store.hits.take_due(MINUTES, but=[2]).hit.standing_id == 1


def test_hits_are_chosen_by_question_time_and_id(store: Store, watch):
    first = store.standing.add(STANDING)
    second = store.standing.add(replace(STANDING, question="What moves?"))
    watch("a", (10, 20, 0.6))
    one, other = _hits(store)
    assert [hit.standing_id for hit in store.hits.latest(standing_id=second)] == [second]
    assert store.hits.latest(after=one.id) == [other]
    assert store.hits.latest(since=other.found_at) == [other]
    assert store.hits.latest(since=other.found_at + MINUTES) == []
    assert store.hits.latest(most=1) == [other]
    assert first == one.standing_id


# What a question could be tried on.


def test_the_footage_of_a_collection_is_in_the_order_of_its_recording(store: Store, film, sql):
    film("b", minute=2)
    film("a", minute=1, source=None)
    film("c", minute=3, source="yard")
    film("d", collection="campus")
    film("e", minute=9)
    film("broken", minute=0)
    sql("UPDATE videos SET state = 'unreadable' WHERE uri = 'file:///broken.mp4'")

    def names(**how: object) -> list[str]:
        given = {"collection": "depot", "source": None, "since": None, "until": None, **how}
        return [found.uri[8:9] for found in store.standing.footage(**given)]

    assert names() == ["a", "b", "c", "e"]
    assert names(source="gate") == ["b", "e"]
    bounds = {"since": EIGHT + timedelta(minutes=2), "until": EIGHT + timedelta(minutes=9)}
    assert names(**bounds) == ["b", "c"]
    assert names(collection="nowhere") == []
    (first, *_) = store.standing.footage("depot", "gate", None, None)
    assert (first.began, first.recorded_at, first.duration) == (EIGHT + timedelta(minutes=2),) * 2 + (60.0,)


def test_the_hit_view_shows_where_and_when(store: Store, watch, sql):
    store.standing.add(STANDING)
    watch("a", (10, 20, 0.6))
    seen = "SELECT question, collection, source, video, score, answer, sightings, delivery_state, starts_at"
    ((*row, starts_at),) = sql(f"{seen} FROM hit_view")
    assert row == [STANDING.question, "depot", "gate", "file:///a.mp4", 0.6, "a man", 1, "none"]
    assert read(starts_at) == EIGHT + timedelta(seconds=10)
