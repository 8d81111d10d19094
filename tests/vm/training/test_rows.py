import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import TrainingDataError
from vm.moments import Span
from vm.training.rows import BadRow, Row, read_rows, usable_rows

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
KEYS = ("video", "question", "query", "plan", "spans", "candidate", "label", "answer", "options", "segment")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a file that stands for a video."""
    made = tmp_path_factory.mktemp("rows")
    (made / "a.mp4").touch()
    return made


def read(folder: Path, role: str, *lines: dict[str, Any] | str) -> tuple[list[Row], list[BadRow]]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path = folder / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    return read_rows(path, role)


def one(folder: Path, role: str, **fields: Any) -> Row:
    rows, bad = read(folder, role, {"video": "a.mp4", **fields})
    assert not bad
    return rows[0]


def test_each_role_reads_its_own_fields(folder: Path) -> None:
    video = folder / "a.mp4"
    row = one(folder, "planner", question="Who?", plan="ground", query="a man")
    assert row == Row(1, video, "Who?", plan="ground", query="a man")
    row = one(folder, "grounder", query="a man", spans=[[1, 2.5], [4, 5]], segment=[0, 9])
    assert row == Row(1, video, "a man", spans=(Span(1, 2.5), Span(4, 5)), segment=Span(0, 9))
    row = one(folder, "verifier", query="a man", candidate=[1, 2], label="No")
    assert row == Row(1, video, "a man", candidate=Span(1, 2), label=False)
    row = one(folder, "answerer", question="Who?", answer="b", options=["a", "b"])
    assert row == Row(1, video, "Who?", answer="b", options=("a", "b"))
    row = one(folder, "narrator", question="Who?", answer="Long ago", segment=[2, 4])
    assert row == Row(1, video, "Who?", answer="Long ago", segment=Span(2, 4))


def test_one_line_may_serve_several_roles(folder: Path) -> None:
    fields = {"question": "Who?", "query": "a man", "plan": "answer", "spans": [[1, 2]], "answer": "he"}
    texts = {
        role: one(folder, role, **fields, source="x").text for role in ("planner", "grounder", "answerer")
    }
    assert texts == {"planner": "Who?", "grounder": "a man", "answerer": "Who?"}


def test_a_plan_without_a_query_grounds_the_question(folder: Path) -> None:
    assert one(folder, "planner", question="Who?", plan="ground").query == "Who?"


@pytest.mark.parametrize(
    ("role", "fields", "complaint"),
    [
        ("planner", {"question": "Who?"}, "plan must be ground-answer, ground or answer, not None"),
        ("planner", {"question": "Who?", "plan": "auto"}, "plan must be"),
        ("planner", {"plan": "answer"}, "question is missing"),
        ("planner", {"question": " ", "plan": "answer"}, "question must be text"),
        ("planner", {"question": "Who?", "plan": "ground", "query": " . "}, "query is empty"),
        ("grounder", {"query": "a", "spans": []}, "spans must be a list"),
        ("grounder", {"query": "a", "spans": [[1]]}, "spans must hold [start, end] in seconds, not [1]"),
        ("grounder", {"query": "a", "spans": [[2, 1]]}, "spans: 2 to 1 is no stretch of time"),
        ("grounder", {"query": "a", "spans": [[0, 1e400]]}, "spans must hold"),
        ("grounder", {"query": "a", "spans": [[0, 10**400]]}, "spans must hold"),
        ("grounder", {"query": "a", "spans": [[True, 2]]}, "spans must hold"),
        ("grounder", {"query": "a", "spans": [[5, 6]], "duration": 4}, "after the video's end at 4 s"),
        ("grounder", {"query": "a", "spans": [[5, 6]], "duration": "4"}, "duration must be"),
        ("grounder", {"query": "a", "spans": [[5, 6]], "segment": [0, 4]}, "a span lies outside the segment"),
        ("verifier", {"query": "a", "candidate": [1, 2]}, "label must be"),
        ("verifier", {"query": "a", "candidate": 7, "label": "Yes"}, "candidate must hold"),
        ("verifier", {"candidate": [1, 2], "label": "Yes"}, "question is missing"),
        ("answerer", {"question": "Who?", "answer": "c", "options": ["a", "b"]}, "one of the options"),
        ("answerer", {"question": "Who?", "answer": "a", "options": ["a"]}, "between 2 and 26 options"),
        ("answerer", {"question": "Who?", "answer": "a", "options": "ab"}, "a list of texts"),
        ("answerer", {"question": "Who?", "answer": "a", "segment": [1, 1]}, "segment is empty"),
        ("narrator", {"question": "Who?", "answer": 7}, "answer must be text"),
        ("narrator", {"question": "\ud800", "answer": "x"}, "not valid Unicode"),
    ],
)
def test_a_bad_row_says_what_is_wrong_with_it(
    folder: Path, role: str, fields: dict[str, Any], complaint: str
) -> None:
    rows, bad = read(folder, role, "", {"video": "a.mp4", **fields})
    assert not rows
    assert [row.line for row in bad] == [2]
    assert complaint in bad[0].reason


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "Expecting"),
        ("7", "must be an object"),
        ("[" * 100_000, "recursion"),
        ('{"video": "' + "x" * 2**20 + '"}', "longer than"),
        ('{"question": "Who?"}', "video is missing"),
        ('{"video": "b.mp4"}', "there is no video"),
        ('{"video": "."}', "there is no video"),
    ],
)
def test_what_is_no_row_at_all_is_told_too(folder: Path, line: str, complaint: str) -> None:
    rows, bad = read(folder, "planner", line)
    assert not rows
    assert complaint in bad[0].reason


@settings(max_examples=30)
@given(fields=st.dictionaries(st.sampled_from(KEYS), ANY_JSON))
@pytest.mark.parametrize("role", ["planner", "grounder", "verifier", "answerer", "narrator"])
def test_no_row_does_harm(folder: Path, role: str, fields: dict[str, Any]) -> None:
    rows, bad = read(folder, role, {"video": "a.mp4"} | fields, {**fields, "video": "a.mp4"})
    assert len(rows) + len(bad) == 2


def test_bytes_that_are_no_text_are_a_bad_row(folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_bytes(b'{"video": "\xff"}\n')
    assert len(read_rows(path, "planner")[1]) == 1


def test_many_bad_rows_are_told_in_few_words(folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_text('{"video": "a.mp4", "question": "Who?", "answer": "he"}\n' + "{\n" * 100)
    told: list[str] = []
    assert len(usable_rows(path, "narrator", "skip", told.append)) == 1
    assert len(told) == 21
    assert told[-1].endswith("and 80 more")
    with pytest.raises(TrainingDataError, match=r"line 2: .*and 80 more"):
        usable_rows(path, "narrator", "fail", told.append)


def test_a_file_without_good_rows_is_no_data(folder: Path) -> None:
    path = folder / "rows.jsonl"
    path.write_text("\n")
    with pytest.raises(TrainingDataError, match="no rows for the planner"):
        usable_rows(path, "planner", "fail", pytest.fail)
    for missing in (folder / "nowhere.jsonl", folder):
        with pytest.raises(TrainingDataError, match=r"no such file|not a regular file"):
            read_rows(missing, "planner")
