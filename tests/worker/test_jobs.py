from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import QuestionError
from worker.jobs import AskSettings, Progress, Request

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    str.strip
)
requests = st.builds(
    Request,
    question=words,
    options=st.lists(words, max_size=3).map(tuple),
    mode=st.sampled_from(["auto", "ground-answer", "ground", "answer"]),
    settings=st.builds(
        AskSettings, window=st.none() | st.floats(1, 1000), min_answer_seconds=st.none() | st.floats(0, 100)
    ),
)


@given(requests, requests)
def test_the_key_is_equal_exactly_where_the_requests_are(one: Request, other: Request):
    assert (one.key("v", "f") == other.key("v", "f")) == (one == other)
    assert one.key("v", "f") == replace(one).key("v", "f")


@given(requests)
def test_another_video_or_checkpoint_is_another_analysis(request: Request):
    assert (
        len({request.key("v", "f"), request.key("w", "f"), request.key("v", "g"), request.key("f", "v")}) == 4
    )


def test_one_option_with_a_comma_is_not_two_options():
    assert Request("q", ("a,b",)).key("v", "f") != Request("q", ("a", "b")).key("v", "f")


@pytest.mark.parametrize(
    "bad",
    [
        {"question": " \n"},
        {"question": "q\0"},
        {"question": "q", "options": ("\udcff",)},
        {"question": "q", "mode": "x"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(bad: dict):
    with pytest.raises(QuestionError):
        Request(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"window": 0.0},
        {"window": float("nan")},
        {"min_answer_seconds": -1.0},
        {"min_answer_seconds": float("inf")},
    ],
)
def test_settings_that_are_no_times_are_refused(bad: dict):
    with pytest.raises(QuestionError):
        AskSettings(**bad)


@given(st.floats(0, 1e6), st.floats(0.01, 1))
def test_what_is_left_takes_as_long_as_it_has_taken_so_far(seconds: float, fraction: float):
    left = Progress.after(seconds, "grounder", fraction).seconds_left
    assert left >= 0
    assert (seconds + left) * fraction == pytest.approx(seconds)


def test_what_has_just_begun_may_take_any_time():
    assert Progress.after(3.0, "planner", 0.0).seconds_left is None
