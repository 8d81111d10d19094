from dataclasses import replace
from io import StringIO

from rich.console import Console

from vm.evaluation.samples import Sample
from vm.moments import Span
from vm.result import Answer, Plan, Step
from worker.jobs import Outcome
from worker.reader import Rows
from worker.show import print_outcomes, table_lines, truth_lines

FAILED = Outcome(
    7, "file:///videos/a%20b.mp4", "Who?", "failed", "no_frames", "a b.mp4: nothing decodes", None
)


def _printed(*outcomes: Outcome, truth: Sample | None = None) -> str:
    console = Console(file=StringIO(), width=100)
    print_outcomes(outcomes, [truth for _ in outcomes], console)
    return console.file.getvalue()


def test_a_video_is_named_once_above_all_its_questions(found):
    done = replace(FAILED, state="succeeded", result=found("Where?"))
    printed = _printed(FAILED, done)
    assert printed.splitlines()[0] == "a b.mp4"
    assert printed.index("Who?") < printed.index("Where?") < printed.index("through the door")


def test_a_failure_is_shown_with_its_code_and_message():
    assert "Who?: failed (no_frames): a b.mp4: nothing decodes" in _printed(FAILED)


def test_what_another_process_works_on_is_said_to_be_so():
    running = replace(FAILED, state="running", error_code=None, error_message=None)
    assert "running: another process works on it" in _printed(running)


def test_control_codes_and_markup_of_strangers_stay_harmless():
    printed = _printed(replace(FAILED, question="\x1b[2J[red]x", error_message="a\nb\r"))
    assert "\x1b" not in printed
    assert "[red]x" in printed


def test_the_truth_stands_beside_what_was_found(found):
    spans = (Span(0.0, 0.5), Span(1.1, 1.6), Span(1.9, 2.0))
    truth = Sample("a.mp4", "Where?", spans=spans, mode="ground", options=("a", "b"), answer="b")
    result = replace(found("Where?"), answer=Answer("a", "A", Span(0, 2)))
    assert list(truth_lines(truth, result)) == [
        "         true             found            IoU",
        "plan     ground           ground-answer",
        "moments  0:00.0 - 0:00.5  0:01.0 - 0:01.6  0.83",
        "         0:01.1 - 0:01.6  0:00.1 - 0:00.4  0.60",
        "         0:01.9 - 0:02.0",
        "answer   b                a",
    ]
    done = replace(FAILED, state="succeeded", result=result)
    assert "answer   b                a\n" in _printed(done, truth=truth)


def test_nothing_found_is_shown_as_nothing(found):
    truth = Sample("a.mp4", "Where?", spans=(Span(0.0, 0.5),), mode="ground", options=("a", "b"), answer="b")
    unusable = Plan((Step("answerer"),), "gibberish", fallback=True)
    nothing = replace(found("Where?"), plan=unusable, candidates=(), moments=(), answer=None)
    assert list(truth_lines(truth, nothing))[1:] == [
        "plan     ground           none that could be used",
        "moments  0:00.0 - 0:00.5  none                     0.00",
        "answer   b                none",
    ]


def test_only_what_is_known_is_compared(found):
    assert list(truth_lines(Sample("a.mp4", "Where?"), found("Where?"))) == ["  true  found"]
    fixed = found("Where?", "ground")
    assert "plan" not in "".join(truth_lines(Sample("a.mp4", "Where?", mode="ground"), fixed))


def test_strangers_truths_stay_harmless(found):
    truth = Sample("a.mp4", "Where?", options=("\x1b[2Ja", "b"), answer="\x1b[2Ja")
    assert "\x1b" not in "".join(truth_lines(truth, found("Where?")))


def test_a_failure_has_no_truth_beside_it():
    assert "true" not in _printed(FAILED, truth=Sample("a.mp4", "Who?", spans=(Span(0, 1),)))


def test_rows_are_aligned_under_their_names():
    rows = Rows(("id", "answer", "score"), [(1, "yes", 0.5), (10, None, 0.123456)])
    assert list(table_lines(rows)) == [
        "id  answer  score",
        "--  ------  ------",
        "1   yes     0.5000",
        "10          0.1235",
    ]


def test_no_rows_show_their_names_alone():
    assert list(table_lines(Rows(("id",), []))) == ["id", "--"]


def test_a_statement_without_columns_shows_nothing():
    assert list(table_lines(Rows((), []))) == ["", ""]


def test_a_value_cannot_break_out_of_its_line():
    assert len(list(table_lines(Rows(("text",), [("a\nb\x1b[2J",)])))) == 3
