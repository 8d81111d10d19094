from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.store.conftest import ATTEMPTS
from vm.errors import NoFrames
from vm.moments import Span
from vm.result import Answer
from worker.store import Store
from worker.store.browse import Wanted

NIGHT = datetime(2026, 5, 31, 23, 59, 59, tzinfo=UTC)  # of a video that lasts for two seconds


@pytest.fixture
def find(store: Store):
    return lambda words, most=20: [outcome.analysis_id for outcome in store.analyses.search(words, most)]


def test_words_of_the_question_are_found_before_there_is_an_answer(registered, find):
    lorry, gate = registered("When does the lorry leave?", "Who opens the gate?")
    assert find("lorry") == [lorry]
    assert find("gate opens") == [gate]
    assert sorted(find("the")) == [lorry, gate]


def test_words_of_query_and_answer_are_found_as_well(store: Store, registered, claim, result, find):
    ids = registered("Who?")
    answered = replace(
        result, question="Who?", query="somebody unlocks", answer=Answer("the porter", None, Span(0, 1))
    )
    store.analyses.finish(claim()[0], answered)
    assert find("who") == find("unlocks") == find("porter somebody") == ids


def test_all_words_must_occur_whatever_their_case(registered, find):
    ids = registered("The red lorry", "The blue lorry")
    assert find("LORRY Red") == ids[:1]
    assert find("red blue") == []


def test_an_answered_question_that_is_asked_again_keeps_the_words_of_its_answer(
    store: Store, registered, claim, result, find
):
    ids = registered("Who comes in?")
    store.analyses.finish(claim()[0], result)
    assert registered("Who comes in?") == ids
    assert find("through the door") == ids


def test_a_question_that_is_asked_anew_is_found_once(store: Store, registered, claim, result, find, counted):
    ids = registered("Who comes in?")
    store.analyses.fail(claim()[0], NoFrames("none"), ATTEMPTS)
    registered("Who comes in?")
    store.analyses.finish(claim()[0], result)
    assert find("comes") == ids
    assert counted("search_index") == [1]


def test_the_days_of_a_recording_are_words_as_well(store: Store, registered, claim, result, find):
    (night,) = registered("Who?", sha256="1", recorded_at=NIGHT)
    (day,) = registered("Who?", sha256="2", recorded_at=NIGHT + timedelta(hours=12))
    (unknown,) = registered("Who?", sha256="3")
    for _ in range(2):
        assert sorted(find("who")) == [night, day, unknown]
        assert find("who day20260531") == [night]
        assert sorted(find("month202606 who")) == [night, day]
        assert find("who day20260601 day20260531") == [night]
        for waiting in [*claim(), *claim(), *claim()]:
            store.analyses.finish(waiting, result)


def test_when_it_is_known_later_when_a_video_was_recorded_its_words_are_kept_anew(
    store: Store, registered, claim, result, find
):
    answered, waiting = registered("Who?", "Why?")
    store.analyses.finish(claim()[0], result)
    assert find("day20260531") == []
    registered("How?", recorded_at=NIGHT)
    assert sorted(find("day20260531"))[:2] == [answered, waiting]
    assert find("day20260531 through") == find("through") == [answered]
    registered("Who?", recorded_at=NIGHT + timedelta(days=1))
    assert find("day20260531") == []
    assert find("day20260602 through") == [answered]


@pytest.mark.parametrize("length", [timedelta(hours=1), timedelta(days=3), timedelta(days=60)])
def test_words_within_a_time_are_those_of_then(store: Store, registered, claim, result, length: timedelta):
    for number in range(12):
        registered("Who?", sha256=f"{number}", recorded_at=NIGHT + number * timedelta(hours=20))
        store.analyses.finish(claim()[0], result)
    since = NIGHT + timedelta(days=2)
    within = {"since": since, "until": since + length, "limit": 100}
    found = store.browse.moments(Wanted(text="who", **within), rank=None)
    assert found == store.browse.moments(Wanted(**within), rank=None)
    assert len(found.values) > 0 or length < timedelta(days=1)


def test_only_as_many_as_are_wanted_are_given(registered, find):
    registered(*[f"lorry {n}" for n in range(5)])
    assert len(find("lorry", 3)) == 3


def test_what_was_deleted_is_forgotten(registered, find, sql, counted):
    first, second = registered("first lorry", "second lorry")
    sql("DELETE FROM analyses WHERE id = :id", id=first)
    assert find("lorry") == [second]
    assert counted("search_index") == [1]


@pytest.mark.parametrize(
    "text", ["Où est la clé?", "Wer öffnet die Tür?", "Кто открывает дверь?", "谁 打开 门", "कौन आता है"]
)
def test_every_word_of_a_question_finds_it_in_any_language(registered, find, text: str):
    ids = registered(text, "something else")
    for word in text.split():
        assert find(word) == ids[:1]


@pytest.mark.parametrize("asked", ["lorry's gate-2", "well-known", "a_b", "v1.2/x", "example.com"])
def test_words_with_signs_in_them_are_found_as_they_were_written(registered, find, asked: str):
    ids = registered(f"Is {asked} there?", "something else")
    assert find(asked) == ids[:1]


@pytest.mark.parametrize("words", ["", " \n", "???", "\0", "\udcff", '"', "*"])
def test_where_there_is_no_word_nothing_is_found(registered, find, words: str):
    registered("Who?")
    assert find(words) == []


@pytest.mark.parametrize(
    "words",
    [
        'lorry"',
        "'; DROP TABLE analyses; --",
        "lorry AND",
        "NEAR(lorry gate)",
        "document:lorry",
        "lor*",
        "^lorry",
        "-lorry",
        "lorry:* & !gate",
        "(lorry | gate",
        "\\",
        ":words %s %(x)s",
        "lorry\0",
    ],
)
def test_what_is_syntax_elsewhere_is_words_here(registered, find, words: str, counted):
    registered("A lorry at the gate")
    find(words)
    assert counted("analyses") == [1]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(max_size=30))
def test_no_words_break_the_search(find, words: str):
    assert find(words) == []
