import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.evaluation.made import prediction, sample
from vm.errors import EvaluationError
from vm.evaluation.journal import Journal
from vm.evaluation.samples import Prediction
from vm.moments import Span

ASKED = sample()
FIRST = prediction(
    ASKED, (1.1, 2.25), key="1", confidences=(0.5,), reply="(a) \U0001f415\u2028", route="ground"
)
SECOND = prediction(ASKED, (0, 60), key="2")

made = st.builds(
    Prediction,
    key=st.text(max_size=5),
    sample=st.text(max_size=5),
    video=st.text(max_size=5),
    question=st.text(max_size=5),
    system=st.text(max_size=5),
    spans=st.lists(st.floats(0, 1e6), max_size=3).map(lambda starts: tuple(Span(s, s + 1) for s in starts)),
    confidences=st.lists(st.floats(0, 1), max_size=3).map(tuple),
    reply=st.none() | st.text(max_size=9),
    duration=st.none() | st.floats(0, 1e6),
)


def keep(path: Path, *predictions: Prediction) -> None:
    with Journal(path) as journal:
        for one in predictions:
            journal.add(one)


@given(made)
def test_a_prediction_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, one: Prediction) -> None:
    path = tmp_path_factory.mktemp("journal") / "kept.jsonl"
    keep(path, one)
    with Journal(path) as journal:
        assert journal.get(one.key) == one
    assert len(path.read_bytes().splitlines()) == 1


def test_a_later_run_adds_to_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    keep(path, FIRST)
    keep(path, SECOND)
    with Journal(path) as journal:
        assert (journal.get("1"), journal.get("2"), journal.get("3")) == (FIRST, SECOND, None)


def test_what_is_added_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    with Journal(path) as journal:
        journal.add(FIRST)
        assert json.loads(path.read_text())["key"] == "1"


def test_half_a_line_is_cut_off_and_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    keep(path, FIRST, SECOND)
    whole = path.read_bytes()
    first, second = whole.splitlines(keepends=True)
    for length in range(len(second)):
        path.write_bytes(first + second[:length])
        with Journal(path) as journal:
            assert (journal.get("1"), journal.get("2")) == (FIRST, None)
        assert path.read_bytes() == first
    keep(path, SECOND)
    assert path.read_bytes() == whole


def test_a_failed_prediction_is_kept_for_readers_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    failed = prediction(ASKED, key="1", error="no such file")
    with Journal(path) as journal:
        journal.add(failed)
        assert journal.get("1") == failed
    with Journal(path) as journal:
        assert journal.get("1") is None
        journal.add(FIRST)
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("my notes", "line 1"),
        ('{"key": 1}\n{}\n', "line 1"),
        ("[]\n", "line 1: no prediction"),
        ('{"kez": "', "line 1"),
        ("[" * 100_000 + "\n", "line 1"),
        (
            '{"key": "1", "sample": "", "video": "", "question": "", "system": "", "spans": [[2, 1]]}\n',
            "not a span",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(EvaluationError, match=words):
        Journal(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be used"):
        Journal(tmp_path / "none" / "kept.jsonl")


def test_without_a_file_predictions_are_remembered() -> None:
    with Journal() as journal:
        journal.add(FIRST)
        assert journal.get("1") == FIRST
