import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vm.moments import Candidate, Span, rank_moments
from vm.render import clock, plain, print_result, print_video
from vm.result import Answer, Plan, Result, Step, VideoFacts

VIDEO = VideoFacts("a.mp4", 100.0, 25.0, 2500, 640, 360, "h264", 90, 0.0)
CANDIDATES = (
    Candidate(Span(0.0, 50.0), 0.75, p_yes=0.2, p_no=0.1, verifier_score=0.52),
    Candidate(Span(99.99, 99.99), 0.25, p_yes=0.3, p_no=0.1, verifier_score=0.55),
)
RESULT = Result(
    question="when?",
    mode="auto",
    options=(),
    plan=Plan((Step("grounder", "a dog"), Step("verifier"), Step("answerer"))),
    query="a dog",
    candidates=CANDIDATES,
    moments=rank_moments(CANDIDATES, "a dog"),
    answer=Answer("at noon", None, Span(68.0, 100.0)),
    video=VIDEO,
    fingerprint="0a" * 32,
    warnings=(),
    seconds={"total": 0.0},
)


def printed(result: Result, width: int = 80, encoding: str = "utf-8", **settings: bool) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_result(result, Console(file=file, width=width, **settings))
    file.seek(0)
    return file.read()


def test_a_piped_result_is_plain_text() -> None:
    assert printed(RESULT, width=50).splitlines() == [
        "question    when?",
        "answer      at noon",
        "seen in     1:08.0 - 1:40.0",
        "plan        grounder, verifier, answerer",
        "looked for  a dog",
        " 1 1:40.0 - 1:40.0  confidence 0.25, verifier 0.55",
        "   0:00.0 " + "─" * 32 + "━ 1:40.0",
        " 2 0:00.0 - 0:50.0  confidence 0.75, verifier 0.52",
        "   0:00.0 " + "━" * 17 + "─" * 16 + " 1:40.0",
    ]


def test_a_terminal_that_knows_ascii_only_gets_ascii() -> None:
    assert "---# 1:40.0" in printed(RESULT, encoding="ascii")


def test_long_values_are_wrapped_beside_their_name() -> None:
    lines = printed(replace(RESULT, question="why do we wait for so long?"), width=30).splitlines()
    assert lines[:2] == ["question    why do we wait for", "            so long?"]


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    result = replace(RESULT, question="why " * 50 + "x" * 300, warnings=("a long warning " * 20,))
    assert max(map(len, printed(result, width).splitlines())) <= width


def test_markup_and_control_characters_of_strangers_do_nothing() -> None:
    hostile = "[red]no[/red] [/] \x1b[2J\x1b]0;owned\x07 \u202eabc \r\n\ud800 :smile:"
    result = replace(
        RESULT,
        question=hostile,
        query=f"{hostile}!",
        answer=Answer(hostile, "A", Span(0.0, 1.0)),
        warnings=(hostile,),
        video=replace(VIDEO, path=hostile),
    )
    text = printed(result, width=120, force_terminal=True, no_color=True)
    assert text.count("[red]no[/red] [/] �[2J�]0;owned� �abc   � :smile:") == 4
    assert not {"\x07", "\r", "\u202e"} & set(text)


def test_options_fallbacks_and_what_was_not_verified_are_told() -> None:
    candidate = Candidate(Span(0.0, 50.0), 0.5, fallback=True)
    result = replace(
        RESULT,
        plan=replace(RESULT.plan, fallback=True),
        answer=Answer("a cat", "B", Span(0.0, 32.0)),
        moments=rank_moments([candidate], "a dog"),
        warnings=("the file ends early",),
    )
    text = printed(result, width=120)
    assert "(B) a cat" in text
    assert "the planner's own could not be used" in text
    assert "confidence 0.50, not verified, not grounded: stands in" in text
    assert "warning: the file ends early" in text


def test_the_best_moments_are_shown_and_the_others_counted() -> None:
    moments = rank_moments([Candidate(Span(i, i + 1.0), 0.5) for i in range(12)], "a dog")
    text = printed(replace(RESULT, moments=moments))
    assert text.count("confidence") == 5
    assert "and 7 more" in text


def test_without_moments_and_answer_the_plan_remains() -> None:
    text = printed(replace(RESULT, moments=(), answer=None, query=None))
    assert [line.split()[0] for line in text.splitlines()] == ["question", "plan"]


def test_facts_of_a_video_are_listed() -> None:
    console = Console(file=io.StringIO(), width=80)
    print_video(VIDEO, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1:40.0 (100.000 s)" in text
    assert "640 x 360 pixels, turned by 90 degrees" in text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.0"), (59.94, "0:59.9"), (59.96, "1:00.0"), (3599.99, "1:00:00.0"), (7325.5, "2:02:05.5")],
)
def test_clock_times_carry_over(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_what_is_written_with_joiners_keeps_them() -> None:
    assert plain("👩\u200d🚀") == "👩\u200d🚀"


@given(st.text())
def test_plain_text_is_one_line_a_terminal_obeys_nothing_of(text: str) -> None:
    shown = plain(text)
    assert len(shown) == len(text)
    assert all(c.isprintable() or c in "\u200c\u200d" or ord(c) > 0xA0 for c in shown)
    assert len(shown.splitlines()) <= 1


@given(st.floats(0, 100), st.floats(0, 100), st.integers(20, 200))
def test_every_span_leaves_a_mark_on_a_line_of_constant_width(
    first: float, second: float, width: int
) -> None:
    candidate = Candidate(Span.clamped(first, second, 100.0), 0.5)
    line = printed(replace(RESULT, moments=rank_moments([candidate], "a dog")), max(width, 30)).splitlines()[
        -1
    ]
    assert "━" in line
    assert line.count("━") + line.count("─") == max(8, min(60, max(width, 30) - 17))
