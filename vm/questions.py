"""Question files → questions. One per line: its plain text, or a JSON object for one with options.

    When does the lorry leave?
    {"question": "Who opens the gate?", "options": ["a guard", "nobody"]}

Empty lines are skipped. A line that cannot be read costs that question, not the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import BinaryIO

from vm.errors import QuestionError
from vm.text_file import decode_text, is_unicode, read_text

MAX_BYTES = 2**20
MAX_CHARACTERS = 4000
"""Of a question and its options together."""
MAX_OPTIONS = len(ascii_uppercase)


@dataclass(frozen=True)
class Question:
    """What to ask; with options, one of them is to be chosen.

    Raises:
        QuestionError: see `check_question`.
    """

    text: str
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_question(self.text, self.options)


def check_question(text: str, options: Sequence[str] = ()) -> None:
    """Whether it can be asked.

    Raises:
        QuestionError: nothing is asked, far too much, the options make no choice, or bytes that are no text,
            as a terminal in the wrong encoding sends them.
    """
    if not text.replace(".", "").strip():
        raise QuestionError("the question is empty: say what to look for")
    if not all(map(is_unicode, (text, *options))):
        raise QuestionError(f"the question is not valid Unicode: {text!a}")
    if sum(map(len, (text, *options))) > MAX_CHARACTERS:
        raise QuestionError(f"question and options are longer than {MAX_CHARACTERS} characters")
    if options and not (2 <= len(options) <= MAX_OPTIONS and all(map(str.strip, options))):
        raise QuestionError(f"give between 2 and {MAX_OPTIONS} options, none of them empty")


def read_questions(path: Path) -> list[Question | QuestionError]:
    """The questions of a file in order, and in place of each malformed one what is wrong with it.

    Raises:
        QuestionError: the file cannot be read, or asks nothing.
    """
    return _parse(read_text(path, MAX_BYTES, QuestionError), str(path))


def read_question_stream(stream: BinaryIO) -> list[Question | QuestionError]:
    """The same from standard input, read to its end."""
    name = "standard input"
    return _parse(decode_text(stream.read(MAX_BYTES + 1), name, MAX_BYTES, QuestionError), name)


def _parse(text: str, name: str) -> list[Question | QuestionError]:
    lines = enumerate(text.split("\n"), start=1)
    questions = [_question_or_error(line.strip(), f"{name}, line {i}") for i, line in lines if line.strip()]
    if not questions:
        raise QuestionError(f"{name}: asks nothing; write one question per line")
    return questions


def _question_or_error(line: str, where: str) -> Question | QuestionError:
    try:
        return _question(line)
    except QuestionError as error:
        return QuestionError(f"{where}: {error}")


def _question(line: str) -> Question:
    if not line.startswith("{"):
        return Question(line)
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise QuestionError(f"begins like a JSON object, but is none: {problem}") from problem
    if unknown := sorted(content.keys() - {"question", "options"}):
        raise QuestionError(f"unknown key {unknown[0]!r}; only question and options are read")
    text, options = content.get("question"), content.get("options", [])
    if not isinstance(text, str) or not _is_texts(options):
        raise QuestionError("question must be text, and options a list of texts")
    return Question(text, tuple(options))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
