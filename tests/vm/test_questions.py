import io
from pathlib import Path

import pytest

from vm.errors import QuestionError
from vm.questions import Question, read_question_stream, read_questions


def read(text: str) -> list[Question | QuestionError]:
    return read_question_stream(io.BytesIO(text.encode()))


def test_a_line_is_a_question_and_an_object_may_bring_options() -> None:
    assert read(
        'when?\r\n\n  why? \n{"question": "who?", "options": ["a", "b"]}\n{"question": "where?"}'
    ) == [
        Question("when?"),
        Question("why?"),
        Question("who?", ("a", "b")),
        Question("where?"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "begins like a JSON object"),
        ("{" * 100_000, "begins like a JSON object"),
        ('{"options": []}', "question must be text"),
        ('{"question": 7}', "question must be text"),
        ('{"question": "who?", "options": "ab"}', "options a list of texts"),
        ('{"question": "who?", "options": [1]}', "options a list of texts"),
        ('{"question": "who?", "answer": "me"}', "unknown key 'answer'"),
        ('{"question": "\\ud800"}', "not valid Unicode"),
        ("...", "question is empty"),
        ('{"question": "who?", "options": ["a"]}', "between 2 and 26 options"),
    ],
)
def test_a_malformed_line_stands_among_the_others_as_its_error(line: str, message: str) -> None:
    first, error, last = read(f"when?\n{line}\nwhy?\n")
    assert (first, last) == (Question("when?"), Question("why?"))
    assert str(error).startswith("standard input, line 2: ")
    assert message in str(error)


@pytest.mark.parametrize("text", ["", " \n\n", "\0"])
def test_nothing_asked_is_an_error(text: str) -> None:
    with pytest.raises(QuestionError, match="standard input"):
        read(text)


def test_files_are_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("{}")
    assert f"{path}, line 1: question must be text" in str(read_questions(path)[0])
    with pytest.raises(QuestionError, match=r"missing\.txt: no such file"):
        read_questions(tmp_path / "missing.txt")
