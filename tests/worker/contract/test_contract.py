import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.config import ChainSettings
from vm.errors import QuestionError
from vm.moments import Span
from vm.subtitles import Cue
from worker.contract import parse_cancel, parse_ingest_directory, parse_submit
from worker.errors import InvalidMessage
from worker.jobs import AskSettings, Request

LEAST = {"version": 1, "uri": "https://cams.example/a.mp4", "questions": [{"question": "Who comes in?"}]}


def test_the_least_that_can_be_submitted():
    submission = parse_submit("k", LEAST)
    assert (submission.key, submission.uri) == ("k", LEAST["uri"])
    assert submission.requests == (Request("Who comes in?"),)
    assert (submission.priority, submission.force, submission.recorded_at) == (5, False, None)


@pytest.mark.parametrize("questions", [{}, {"questions": []}])
def test_without_questions_only_the_standing_ones_are_asked(questions: dict):
    here = {"version": 1, "uri": LEAST["uri"], "collection": "depot"}
    assert parse_submit("k", {**here, **questions}).requests == ()
    folder = {"version": 1, "path": "/videos", "collection": "depot", **questions}
    assert parse_ingest_directory("k", folder).template.requests == ()


def test_everything_that_can_be_submitted():
    question = {
        "question": "Who?",
        "options": ["a", "b"],
        "mode": "ground-answer",
        "subtitles": [{"start": 1, "end": 2.5, "text": "hello"}],
        "window": None,
        "min_answer_seconds": 4,
    }
    more = {
        "key": "mine",
        "collection": "depot",
        "source": "gate",
        "recorded_at": "2026-03-01T08:00:00+01:00",
        "priority": 9,
        "callback_url": "https://us.example/done",
        "force": True,
    }
    submission = parse_submit("k", {**LEAST, **more, "questions": [question, question]})
    cues = (Cue(Span(1.0, 2.5), "hello"),)
    assert submission.requests == (Request("Who?", ("a", "b"), "ground-answer", AskSettings(None, 4), cues),)
    assert submission.recorded_at == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert (submission.key, submission.collection, submission.source) == ("mine", "depot", "gate")
    assert (submission.priority, submission.callback_url, submission.force) == (
        9,
        "https://us.example/done",
        True,
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version"),
        ({"uri": ""}, "uri"),
        ({"questions": None}, "questions"),
        ({"questions": [{"question": "a"}, {"question": 7}]}, r"questions\[1\].question"),
        ({"questions": [{"question": " "}]}, "question is empty"),
        ({"questions": [{"question": "..."}]}, "question is empty"),
        ({"questions": [{"question": "a", "options": ["one"]}]}, "options"),
        ({"questions": [{"question": "a", "options": ["one", " "]}]}, "none of them empty"),
        ({"questions": [{"question": "a" * 3000, "options": ["b" * 500, "c" * 501]}]}, "longer than 4000"),
        ({"questions": [{"question": "a", "mode": "guess"}]}, "mode"),
        ({"questions": [{"question": "a", "window": 49}]}, "window"),
        ({"questions": [{"question": "a", "subtitles": [{"start": 2, "end": 1, "text": "x"}]}]}, "span"),
        ({"questions": [{"question": "a\0"}]}, "valid text"),
        ({"priority": 10}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"source": "gate"}, "collection"),
        ({"recorded_at": "yesterday"}, "yesterday"),
        ({"recorded_at": "2026-03-01T08:00:00"}, "time zone"),
        ({"callback_url": "file:///etc/passwd"}, "callback_url"),
        ({"colour": "red"}, "colour"),
        ({"unnamed": [1]}, "unnamed"),
    ],
)
def test_what_is_not_as_the_contract_says_is_refused_and_the_place_is_told(change: dict, told: str):
    with pytest.raises(InvalidMessage, match=told):
        parse_submit("k", {**LEAST, **change})


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_no_arguments_whatever_do_more_than_be_refused(value: object):
    for arguments in ({**LEAST, "questions": value}, {**LEAST, "uri": value}, {"version": value}):
        try:
            parse_submit("k", arguments)
        except InvalidMessage:
            continue
        assert json.dumps(arguments)


def test_what_is_to_be_cancelled():
    wanted = parse_cancel({"version": 1, "submissions": [1, 2]})
    assert (wanted.submissions, wanted.analyses) == ((1, 2), ())
    for bad in ({"version": 1}, {"version": 1, "analyses": [0]}, {"version": 1, "analyses": ["1"]}):
        with pytest.raises(InvalidMessage):
            parse_cancel(bad)


def test_a_folder_is_a_template_for_its_files():
    folder = parse_ingest_directory(
        "k",
        {
            "version": 1,
            "path": "/videos",
            "pattern": "*.mp4",
            "recursive": True,
            "questions": LEAST["questions"],
        },
    )
    assert (folder.path, folder.pattern, folder.recursive) == ("/videos", "*.mp4", True)
    assert folder.template.requests == (Request("Who comes in?"),)
    with pytest.raises(InvalidMessage, match=r"questions\[0\]"):
        parse_ingest_directory("k", {"version": 1, "path": "/videos", "questions": [{}]})


zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(timezones=zones))
def test_every_time_with_a_zone_is_understood(instant: datetime):
    assert parse_submit("k", {**LEAST, "recorded_at": instant.isoformat()}).recorded_at == instant


def test_the_least_window_is_the_one_that_a_model_would_take():
    def asked(window: float) -> dict:
        return {**LEAST, "questions": [{"question": "a", "window": window}]}

    least = ChainSettings.window_overlap * 2
    assert parse_submit("k", asked(least)).requests[0].settings.window == ChainSettings(window=least).window
    less = math.nextafter(least, 0)
    with pytest.raises(InvalidMessage):
        parse_submit("k", asked(less))
    with pytest.raises(QuestionError):
        ChainSettings(window=less)
