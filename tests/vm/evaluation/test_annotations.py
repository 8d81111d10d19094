import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.vm.evaluation.made import sample
from vm.errors import EvaluationError
from vm.evaluation.annotations import Format, read_annotations, write_annotations
from vm.evaluation.samples import Sample


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "v_two.mkv").touch()
    return folder


def read(tmp_path: Path, form: Format, text: str, videos: Path, **beside: Path) -> list[Sample]:
    path = tmp_path / "annotations"
    path.write_text(text, encoding="utf-8")
    return read_annotations(path, form, videos, **beside)


def test_json_lines_of_our_own(tmp_path: Path, videos: Path) -> None:
    full = {
        "video": "a.mp4",
        "question": "Who  opens\nthe gate?",
        "query": "the gate opens",
        "duration": 60,
        "spans": [[12, 15.5], [20, 21]],
        "options": ["a guard", "nobody"],
        "answer": "nobody",
        "mode": "ground-answer",
        "groups": ["gates", "night"],
    }
    few = {"video": "sub/b.mp4", "query": "a dog barks"}
    found = read(tmp_path, "jsonl", f"{json.dumps(full)}\n\n{json.dumps(few)}\n", videos)
    assert found == [
        Sample(
            *(str(videos / "a.mp4"), "Who opens the gate?", 60, "the gate opens"),
            spans=sample(spans=[(12, 15.5), (20, 21)]).spans,
            options=("a guard", "nobody"),
            answer="nobody",
            mode="ground-answer",
            groups=("gates", "night"),
        ),
        Sample(str(videos / "sub" / "b.mp4"), "a dog barks", query="a dog barks"),
    ]


def test_what_is_written_is_read_again_wherever_the_folder_is_moved(tmp_path: Path) -> None:
    written = [
        sample(
            *(str(tmp_path / "clips" / "a.mp4"), "Whér?"),
            spans=[(12, 15.5), (20, 21)],
            duration=60.5,
            query="the gate opens",
            options=("a guard", "nobody"),
            answer="nobody",
            mode="ground-answer",
            groups=("gates",),
        ),
        sample(str(tmp_path / "b.mp4"), "When?"),
    ]
    (tmp_path / "before").mkdir()
    moved = [replace(one, video=one.video.replace(str(tmp_path), str(tmp_path / "after"))) for one in written]
    truth = tmp_path / "before" / "truth.jsonl"
    inside = [replace(one, video=one.video.replace(str(tmp_path), str(truth.parent))) for one in written]
    write_annotations(truth, inside)
    truth.parent.rename(tmp_path / "after")
    path = tmp_path / "after" / "truth.jsonl"
    assert read_annotations(path, "jsonl", path.parent) == moved
    assert json.loads(path.read_text().splitlines()[1]) == {"video": "b.mp4", "question": "When?"}


def test_annotations_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"gone/truth\.jsonl: cannot be written"):
        write_annotations(tmp_path / "gone" / "truth.jsonl", [])


def test_charades_sta(tmp_path: Path, videos: Path) -> None:
    text = "3MSZA 24.3 30.4##person turn a light on.\nv_two 9.2 2.1##person sits ## down.\n"
    assert read(tmp_path, "charades-sta", text, videos) == [
        sample(str(videos / "3MSZA.mp4"), "person turn a light on.", spans=[(24.3, 30.4)]),
        sample(str(videos / "v_two.mkv"), "person sits ## down.", spans=[(2.1, 9.2)]),
    ]


def test_activitynet_captions(tmp_path: Path, videos: Path) -> None:
    entry = {"duration": 82.73, "timestamps": [[0.83, 19.86], [17.37, 60.81]], "sentences": ["A. ", " B."]}
    found = read(tmp_path, "activitynet-captions", json.dumps({"v_two": entry}), videos)
    video = str(videos / "v_two.mkv")
    assert found == [
        sample(video, "A.", spans=[(0.83, 19.86)], duration=82.73),
        sample(video, "B.", spans=[(17.37, 60.81)], duration=82.73),
    ]


def test_qvhighlights(tmp_path: Path, videos: Path) -> None:
    row = {"qid": 9, "query": "A man talks", "duration": 150, "vid": "x_60.0_210.0"}
    windows = {"relevant_windows": [[0, 36], [72, 100]], "saliency_scores": [[4, 4, 4]]}
    found = read(tmp_path, "qvhighlights", json.dumps(row | windows), videos)
    video = str(videos / "x_60.0_210.0.mp4")
    assert found == [sample(video, "A man talks", spans=[(0, 36), (72, 100)], duration=150)]


def test_nextgqa(tmp_path: Path, videos: Path) -> None:
    table = (
        "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
        '4010069381,369,640,480,"how do they, both, move",jump,6,CH,run,jump,sit,fly,lie down\n'
    )
    spans, names = tmp_path / "gsub.json", tmp_path / "map.json"
    spans.write_text('{"4010069381": {"duration": 46, "location": {"6": [[0.2, 12.3]]}, "fps": 30}}')
    names.write_text('{"4010069381": "1164/4010069381"}')
    (found,) = read(tmp_path, "nextgqa", table, videos, spans=spans, names=names)
    assert found == sample(
        str(videos / "1164" / "4010069381.mp4"),
        "How do they, both, move?",
        spans=[(0.2, 12.3)],
        duration=46,
        options=("Run", "Jump", "Sit", "Fly", "Lie down"),
        answer="Jump",
        groups=("CH",),
    )
    (plain,) = read(tmp_path, "nextgqa", table, videos, spans=spans)
    assert plain.video == str(videos / "4010069381.mp4")
    with pytest.raises(EvaluationError, match="--spans"):
        read(tmp_path, "nextgqa", table, videos)


def test_cgbench(tmp_path: Path, videos: Path) -> None:
    row = {
        "video_uid": "BV1",
        "question": "What is shown?",
        "choices": ["a cat", "a dog", "a cow"],
        "right_answer": "B",
        "answer": "a dog",
        "clue_intervals": [[5, 8], [30, 31]],
        "sub_category": "Entity Perception",
        "domain": "Animals",
    }
    (found,) = read(tmp_path, "cgbench", json.dumps([row]), videos)
    assert found == sample(
        str(videos / "BV1.mp4"),
        "What is shown?",
        spans=[(5, 8), (30, 31)],
        options=("A cat", "A dog", "A cow"),
        answer="A dog",
        groups=("Entity Perception",),
    )


GOOD = '{"video": "a.mp4", "question": "q"}'


@pytest.mark.parametrize(
    ("form", "text", "words"),
    [
        ("jsonl", f"{GOOD}\n\n{{", "line 3: is not JSON"),
        ("jsonl", f"{GOOD}\n[1]", "line 2: must be a JSON object"),
        ("jsonl", "[" * 100_000, "line 1: is not JSON"),
        ("jsonl", '{"video": "a.mp4"}', "line 1: has no 'query'"),
        ("jsonl", '{"question": "q"}', "line 1: has no 'video'"),
        ("jsonl", '{"video": "a.mp4", "question": 1}', "line 1: 1 is no text"),
        ("jsonl", '{"video": "a.mp4", "question": "\\ud800"}', "line 1: .* is no text"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "spam": 1}', "line 1: unknown key 'spam'"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "spans": [1]}', "line 1: "),
        ("jsonl", '{"video": "a.mp4", "question": "q", "spans": [[1]]}', "line 1: "),
        ("jsonl", '{"video": "a.mp4", "question": "q", "spans": [[1, NaN]]}', "line 1: not a span"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "spans": [[-1, 2]]}', "line 1: not a span"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "options": "ab"}', "line 1: 'ab' is no list"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "options": ["a", "b"]}', "line 1: the answer None"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "mode": "auto"}', "line 1: unknown mode"),
        ("jsonl", '{"video": "a.mp4", "question": "q", "duration": "1"}', "line 1: the duration"),
        ("jsonl", " \n", "holds no annotation"),
        ("charades-sta", "A 1 2##q\nB 1##q", "line 2: "),
        ("charades-sta", "A 1 2 q", "line 1: "),
        ("charades-sta", "A 1 two##q", "line 1: "),
        ("activitynet-captions", "[]", "must hold a JSON object"),
        ("activitynet-captions", '{"v": {"sentences": ["a"], "timestamps": []}}', "entry 'v': zip"),
        ("activitynet-captions", '{"v": 3}', "entry 'v'"),
        ("qvhighlights", '{"vid": "v", "query": "q"}', "line 1: has no 'relevant_windows'"),
        ("cgbench", "{}", "must hold a JSON list"),
        ("cgbench", "[{}]", "entry 1: has no 'choices'"),
        (
            "cgbench",
            '[{"choices": ["a"], "video_uid": "v", "question": "q", "clue_intervals": [], '
            '"right_answer": "C"}]',
            "entry 1: ",
        ),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_a_bad_row_is_named(tmp_path: Path, videos: Path, form: Any, text: str, words: str) -> None:
    with pytest.raises(EvaluationError, match=words) as caught:
        read(tmp_path, form, text, videos)
    assert str(tmp_path / "annotations") in str(caught.value)


def test_a_bad_row_of_a_table_is_named(tmp_path: Path, videos: Path) -> None:
    spans = tmp_path / "gsub.json"
    spans.write_text('{"1": {"duration": 46, "location": {"6": [[0.2, 12.3]]}}}')
    table = "video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n1,why,b,7,CH,a,b,c,d,e\n"
    with pytest.raises(EvaluationError, match="line 2: has no '7'"):
        read(tmp_path, "nextgqa", table, videos, spans=spans)
    with pytest.raises(EvaluationError, match="line 2: "):
        read(tmp_path, "nextgqa", table.replace(",7,CH,a,b,c,d,e", ",6,CH"), videos, spans=spans)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file"):
        read_annotations(tmp_path / "none", "jsonl", tmp_path)
