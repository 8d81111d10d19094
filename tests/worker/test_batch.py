import json
from functools import partial
from pathlib import Path

import pytest

from vm.errors import EvaluationError, QuestionError
from vm.moments import Span
from vm.questions import Question
from worker.batch import Batch, annotated_batches, usable_requests
from worker.jobs import Request

ground = partial(Request, mode="ground")


def test_questions_become_requests_each_once_and_in_order():
    questions = [Question("b"), Question("a", ("x", "y")), Question("b"), Question("a")]
    requests, errors = usable_requests(questions, ground)
    assert requests == (ground("b"), ground("a", ("x", "y")), ground("a"))
    assert errors == []


def test_a_question_that_cannot_be_asked_does_not_lose_the_others():
    broken = QuestionError("line 1: broken")
    requests, errors = usable_requests([broken, Question("a"), Question("a\0")], ground)
    assert requests == (ground("a"),)
    assert errors[0] is broken
    assert "not valid text" in str(errors[1])


def _annotations(folder: Path, *rows: dict) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_annotations_are_asked_video_by_video_with_their_truths(tmp_path: Path):
    when = {"video": "b.mp4", "question": "When?", "spans": [[1, 2]]}
    who = {"video": "a/a.mp4", "question": "Who?", "options": ["x", "y"], "answer": "y"}
    batches = annotated_batches(_annotations(tmp_path, when, who, {**who, "video": "b.mp4"}, when), ground)
    b, a = batches
    assert [batch.video for batch in batches] == [tmp_path / "b.mp4", tmp_path / "a" / "a.mp4"]
    assert b.requests == (ground("When?"), ground("Who?", ("x", "y")))
    assert b.truths[ground("When?")].spans == (Span(1, 2),)
    assert a.truths[ground("Who?", ("x", "y"))].answer == "y"


def test_annotations_that_make_no_sense_are_named(tmp_path: Path):
    with pytest.raises(EvaluationError, match=r"truth\.jsonl, line 1: has no 'video'"):
        annotated_batches(_annotations(tmp_path, {"question": "When?"}), ground)


def test_questions_without_truth_have_none():
    assert Batch(Path("a.mp4"), (ground("a"),)).truths == {}
