"""What analysts look for: the same on both databases, and nothing that was not asked for."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event

from vm.errors import NoFrames
from vm.result import Answer, Result, VideoFacts
from worker.daytime import Hours
from worker.reader import Rows
from worker.store import Store
from worker.store.browse import Wanted

HOUR = timedelta(hours=1)
# The night on which Berlin's clocks go from 2 to 3: 21:30, 22:30, … there, and so on for 12 hours.
EVENING = datetime(2026, 3, 28, 20, 30, tzinfo=UTC)
FACTS = VideoFacts("", 60.0, 25.0, 1500, 640, 480, "h264", 0, 0.0)


@pytest.fixture
def answered(store: Store, registered: Callable, claim: Callable, result: Result) -> Callable[..., int]:
    """Has a question on a video of its own answered: `answered("Who?", recorded_at=…, score=0.7)`."""
    count = 0

    def answer(question: str, score: float = 0.7, said: str = "a dog", **how: object) -> int:
        nonlocal count
        count += 1
        (analysis_id,) = registered(question, sha256=f"{count:064}", **how)
        candidate = replace(result.moments[0].candidate, verifier_score=score)
        best = replace(result.moments[0], candidate=candidate)
        told = Answer(said, None, result.answer.span)
        done = replace(result, question=question, moments=(best, *result.moments[1:]), answer=told)
        store.analyses.finish(claim()[0], done)
        return analysis_id

    return answer


@pytest.fixture
def night(answered: Callable) -> Callable[[Rows], list[int]]:
    """A question an hour for twelve hours, and one nobody knows when of; gives the hours of found rows."""
    ids = [
        answered("Who?", recorded_at=EVENING + hour * HOUR, collection="depot", source="gate")
        for hour in range(12)
    ]
    answered("Who?", collection="depot", source="gate")

    def hours(rows: Rows) -> list[int]:
        return [ids.index(found) for found in _column(rows, "analysis_id")]

    return hours


def _column(rows: Rows, name: str) -> list:
    return [values[rows.names.index(name)] for values in rows.values]


def test_the_best_moment_of_each_analysis_is_found_the_latest_first(store: Store, answered: Callable):
    first, second = answered("Who?"), answered("Why?")
    assert _column(store.browse.moments(Wanted()), "analysis_id") == [second, first]
    assert _column(store.browse.moments(Wanted(limit=1)), "analysis_id") == [second]
    assert _column(store.browse.moments(Wanted(), rank=2), "rank") == [2, 2]
    every = store.browse.moments(Wanted(), rank=None)
    assert sorted(zip(_column(every, "analysis_id"), _column(every, "rank"), strict=True)) == [
        (first, 1),
        (first, 2),
        (second, 1),
        (second, 2),
    ]


def test_a_moment_comes_with_all_that_is_known_of_it(store: Store, answered: Callable):
    answered("Who?", recorded_at=EVENING, collection="depot", source="gate", uri="file:///a.mp4")
    rows = store.browse.moments(Wanted())
    found = dict(zip(rows.names, rows.values[0], strict=True))
    shown = ("collection", "source", "video", "question", "query", "rank", "start_seconds", "answer")
    assert [found[name] for name in shown] == [
        "depot",
        "gate",
        "file:///a.mp4",
        "Who?",
        "a door opens",
        1,
        1.0,
        "a dog",
    ]
    assert (found["starts_at"], found["fallback"]) == (EVENING + timedelta(seconds=1), False)


def test_moments_are_found_by_words_place_and_score(store: Store, answered: Callable):
    lorry = answered("When does the lorry leave?", score=0.4, collection="depot", source="gate")
    porter = answered("Who?", said="the porter", collection="depot", source="yard")
    other = answered("Who?", score=0.6, collection="school", source="gate")

    def found(min_score: float | None = None, **wanted: object) -> list[int]:
        return _column(store.browse.moments(Wanted(**wanted), min_score=min_score), "analysis_id")

    assert found(text="LORRY leave") == [lorry]
    assert found(text="porter who") == [porter]
    assert found(text="elephant") == found(text="...") == found(text="") == []
    assert found(text='who AND NOT * "') == []
    assert found(collection="depot") == [porter, lorry]
    assert found(collection="depot", source="gate") == [lorry]
    assert found(source="gate") == [other, lorry]
    assert found(min_score=0.6) == [other, porter]
    assert found(collection="depot", text="who", min_score=0.9) == []


def test_what_was_not_verified_is_judged_by_its_confidence(
    store: Store, registered: Callable, claim: Callable, result: Result
):
    registered("Who?")
    bare = replace(result.moments[0].candidate, p_yes=None, p_no=None, verifier_score=None)
    store.analyses.finish(claim()[0], replace(result, moments=(replace(result.moments[0], candidate=bare),)))
    assert len(store.browse.moments(Wanted(), min_score=0.5).values) == 1
    assert store.browse.moments(Wanted(), min_score=0.51).values == []


def test_moments_between_two_instants_are_the_latest_recorded_first(store: Store, night: Callable):
    def found(**wanted: object) -> list[int]:
        return night(store.browse.moments(Wanted(**wanted)))

    assert found(since=EVENING + 3 * HOUR, until=EVENING + 6 * HOUR) == [5, 4, 3]
    assert found(since=EVENING + 10 * HOUR) == [11, 10]
    assert found(until=EVENING + 2 * HOUR, limit=1) == [1]
    assert found(until=EVENING) == []


@pytest.mark.parametrize(
    ("hours", "zone", "expected"),
    [
        ("22:00-06:00", "Europe/Berlin", [1, 2, 3, 4, 5, 6, 7]),
        ("02:00-03:00", "Europe/Berlin", []),
        ("03:00-04:00", "Europe/Berlin", [5]),
        ("22:00-06:00", "UTC", [2, 3, 4, 5, 6, 7, 8, 9]),
        ("20:30-20:31", "UTC", [0]),
        ("20:31-21:30", "UTC", []),
    ],
)
def test_the_time_of_day_is_that_of_the_clock_on_the_wall(
    store: Store, night: Callable, hours: str, zone: str, expected: list[int]
):
    wanted = Wanted(hours=Hours.parse(hours, zone))
    assert sorted(night(store.browse.moments(wanted))) == expected
    assert sorted(night(store.browse.answers(wanted))) == expected
    assert sorted(set(night(store.browse.windows(wanted)))) == expected


def test_answers_are_found_with_what_they_rest_on(store: Store, answered: Callable):
    first = answered("Who?", said="the porter", recorded_at=EVENING)
    answered("Why?", said="to sleep", recorded_at=EVENING + HOUR)
    rows = store.browse.answers(Wanted(text="porter"))
    assert _column(rows, "analysis_id") == [first]
    assert (_column(rows, "answer"), _column(rows, "start_seconds")) == (["the porter"], [0.0])
    # The answer rests on the first two seconds.
    touched = Wanted(since=EVENING + timedelta(seconds=1), until=EVENING + timedelta(seconds=1.5))
    assert _column(store.browse.answers(touched), "analysis_id") == [first]


def test_windows_say_where_was_looked_and_nothing_found(store: Store, answered: Callable, registered, claim):
    found = answered("Who?", recorded_at=EVENING, facts=FACTS)
    (failed,) = registered("Why?", sha256="b" * 64, facts=FACTS)
    store.analyses.fail(claim()[0], NoFrames("none"), 1)
    rows = store.browse.windows(Wanted())
    assert _column(rows, "analysis_id") == [failed, found, found]
    assert _column(rows, "verdict") == ["failed", "nothing_found", "found"]
    assert _column(rows, "frames") == [0, 5, 6]
    assert _column(store.browse.windows(Wanted(), "nothing_found"), "end_seconds") == [0.9]
    later = Wanted(since=EVENING + timedelta(seconds=0.9))
    assert _column(store.browse.windows(later), "start_seconds") == [0.9]


def test_gaps_say_where_was_not_looked(store: Store, answered: Callable):
    answered("Who?", recorded_at=EVENING, facts=FACTS, collection="depot", source="gate")
    rows = store.browse.gaps(Wanted(collection="depot"))
    assert (_column(rows, "start_seconds"), _column(rows, "end_seconds")) == ([2.0], [60.0])
    assert _column(rows, "starts_at") == [EVENING + timedelta(seconds=2)]
    assert store.browse.gaps(Wanted(until=EVENING)).values == []


def test_looking_keeps_nobody_from_writing(store: Store, answered: Callable, url: str):
    answered("Who?")
    written: list[int] = []

    def write(*_: object) -> None:
        with Store(url) as other:
            written.append(len(other.queues.arrivals()))

    event.listen(store.engine, "after_cursor_execute", write)
    try:
        store.browse.moments(Wanted(text="who"))
    finally:
        event.remove(store.engine, "after_cursor_execute", write)
    assert written
