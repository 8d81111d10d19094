from dataclasses import replace
from io import StringIO

from rich.console import Console

from worker.jobs import Outcome
from worker.reader import Rows
from worker.show import print_outcomes, table_lines

FAILED = Outcome(
    7, "file:///videos/a%20b.mp4", "Who?", "failed", "no_frames", "a b.mp4: nothing decodes", None
)


def _printed(*outcomes: Outcome) -> str:
    console = Console(file=StringIO(), width=100)
    print_outcomes(outcomes, console)
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
