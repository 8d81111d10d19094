"""Annotation files → samples: those of public benchmarks as they are published, and JSON lines of our own.

Ours, which can be written as well:

    {"video": "yard.mp4", "question": "Who opens the gate?", "spans": [[12.0, 15.5]],
     "options": ["a guard", "nobody"], "answer": "a guard", "mode": "ground-answer"}

Only `video` and `question` (or, in its place, `query`) are required; `duration`, `query` and `groups`
may be given, and are what `Sample` says. An answer without options is not graded.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_uppercase
from types import MappingProxyType
from typing import Any, Literal, get_args

from vm.errors import EvaluationError
from vm.evaluation.samples import Sample
from vm.moments import Span
from vm.text_file import is_unicode, read_text, write_text

Format = Literal["jsonl", "charades-sta", "activitynet-captions", "qvhighlights", "nextgqa", "cgbench"]
FORMATS: tuple[Format, ...] = get_args(Format)

MAX_BYTES = 2**30
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_OWN_FIELDS = ("video", "question", "query", "duration", "spans", "options", "answer", "mode", "groups")


def read_annotations(
    path: Path, form: Format, videos: Path, spans: Path | None = None, names: Path | None = None
) -> list[Sample]:
    """The samples of an annotation file.

    Args:
        videos: the folder with the videos.
        spans: NExT-GQA's spans, which are published in a file of their own (`gsub_*.json`).
        names: NExT-GQA's file from its video numbers to paths below `videos` (`map_vid_vidorID.json`).

    Raises:
        EvaluationError: a file that cannot be read, or a row (named with its line or number) that
            makes no sense.
    """
    if form == "nextgqa":
        samples = list(_nextgqa(path, videos, spans, names))
    else:
        samples = list(_READERS[form](path, videos))
    if not samples:
        raise EvaluationError(f"{path}: holds no annotation")
    return samples


def _own(path: Path, videos: Path) -> Iterator[Sample]:
    for where, row in _json_lines(path):
        with _reading(where):
            if unknown := sorted(row.keys() - set(_OWN_FIELDS)):
                raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(_OWN_FIELDS)}")
            question = row["question"] if "question" in row else row["query"]
            fields = {name: _text(row[name]) for name in ("query", "answer", "mode") if name in row}
            lists = {name: _texts(row[name]) for name in ("options", "groups") if name in row}
            video, duration = videos / _text(row["video"]), row.get("duration")
            sample = _sample(video, question, row.get("spans", []), duration=duration, **fields, **lists)
        yield sample


def _charades_sta(path: Path, videos: Path) -> Iterator[Sample]:
    """`AO8RW 0.0 6.9##a person is putting a book on a shelf.`"""
    for number, line in enumerate(read_text(path, MAX_BYTES, EvaluationError).split("\n"), start=1):
        if line.strip():
            with _reading(f"{path}, line {number}"):
                place, _, query = line.partition("##")
                name, start, end = place.split()
                sample = _sample(_video(videos, name), query, [[float(start), float(end)]])
            yield sample


def _activitynet_captions(path: Path, videos: Path) -> Iterator[Sample]:
    """`{"v_…": {"duration": 82.7, "timestamps": [[0.8, 19.9], …], "sentences": ["…", …]}, …}`"""
    for name, entry in _json(path, dict).items():
        with _reading(f"{path}, entry {name!r}"):
            video, duration = _video(videos, name), entry.get("duration")
            pairs = zip(entry["sentences"], entry["timestamps"], strict=True)
            samples = [_sample(video, query, [bounds], duration=duration) for query, bounds in pairs]
        yield from samples


def _qvhighlights(path: Path, videos: Path) -> Iterator[Sample]:
    """`{"vid": "…", "query": "…", "duration": 150, "relevant_windows": [[0, 36], …]}`, one per line.

    The test split is published without its windows and cannot be graded.
    """
    for where, row in _json_lines(path):
        with _reading(where):
            video, duration = _video(videos, row["vid"]), row.get("duration")
            sample = _sample(video, row["query"], row["relevant_windows"], duration=duration)
        yield sample


def _nextgqa(path: Path, videos: Path, spans: Path | None, names: Path | None) -> Iterator[Sample]:
    """A table of video_id, qid, question, a0 … a4, answer and type; the spans stand in another file."""
    if spans is None:
        raise EvaluationError(f"{path}: NExT-GQA has its spans in a file of their own; give it with --spans")
    found, named = _json(spans, dict), _json(names, dict) if names else {}
    table = csv.DictReader(io.StringIO(read_text(path, MAX_BYTES, EvaluationError)))
    for row in table:
        with _reading(f"{path}, line {table.line_num}"):
            name = row["video_id"]
            sample = _sample(
                _video(videos, named.get(name, name)),
                _capital(row["question"]) + "?",
                found[name]["location"][row["qid"]],
                duration=found[name]["duration"],
                options=tuple(_capital(row[f"a{number}"]) for number in range(5)),
                answer=_capital(row["answer"]),
                groups=(row["type"],),
            )
        yield sample


def _cgbench(path: Path, videos: Path) -> Iterator[Sample]:
    """`[{"video_uid", "question", "choices", "right_answer": "B", "clue_intervals", "sub_category"}, …]`"""
    for number, row in enumerate(_json(path, list), start=1):
        with _reading(f"{path}, entry {number}"):
            options = tuple(_capital(choice) for choice in _texts(row["choices"]))
            sample = _sample(
                _video(videos, row["video_uid"]),
                row["question"],
                row["clue_intervals"],
                options=options,
                answer=options[ascii_uppercase.index(row["right_answer"])],
                groups=(_text(row["sub_category"]),),
            )
        yield sample


_READERS: Mapping[Format, Callable[[Path, Path], Iterator[Sample]]] = MappingProxyType(
    {
        "jsonl": _own,
        "charades-sta": _charades_sta,
        "activitynet-captions": _activitynet_captions,
        "qvhighlights": _qvhighlights,
        "cgbench": _cgbench,
    }
)


def _sample(video: Path, question: Any, spans: Any, **fields: Any) -> Sample:
    """Raises: ValueError, TypeError."""
    # A few published spans have their ends exchanged.
    truths = tuple(Span(*sorted(float(bound) for bound in bounds)) for bounds in spans)
    return Sample(str(video), " ".join(_text(question).split()), spans=truths, **fields)


def _video(videos: Path, name: Any) -> Path:
    """The file of that name, whatever its kind. One that is missing fails when it is opened."""
    candidates = [videos / f"{_text(name)}{suffix}" for suffix in _VIDEO_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])


def write_annotations(path: Path, samples: Iterable[Sample]) -> None:
    """Samples as JSON lines of our own, the videos relative to the file; whole or not at all.

    Raises:
        EvaluationError: the file cannot be written.
    """
    rows = [annotation(sample, os.path.relpath(sample.video, path.parent)) for sample in samples]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(path, lines, EvaluationError)


def annotation(sample: Sample, video: str) -> dict[str, Any]:
    """A sample as the object that stands for it in a line of our own; what is not known is left out."""
    fields = {name: getattr(sample, name) for name in _OWN_FIELDS}
    fields |= {"video": video, "spans": [(span.start, span.end) for span in sample.spans]}
    return {name: value for name, value in fields.items() if value}


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Say where it is that a row makes no sense."""
    try:
        yield
    except KeyError as problem:
        raise EvaluationError(f"{where}: has no {problem}") from problem
    except (ValueError, TypeError, AttributeError, IndexError) as problem:
        raise EvaluationError(f"{where}: {problem}") from problem


def _json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(read_text(path, MAX_BYTES, EvaluationError))
    except (ValueError, RecursionError) as problem:
        raise EvaluationError(f"{path}: is not JSON: {problem}") from problem
    if not isinstance(content, kind):
        raise EvaluationError(f"{path}: must hold a JSON {'object' if kind is dict else 'list'}")
    return content


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_text(path, MAX_BYTES, EvaluationError).split("\n"), start=1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise EvaluationError(f"{where}: is not JSON: {problem}") from problem
        if not isinstance(row, dict):
            raise EvaluationError(f"{where}: must be a JSON object")
        yield where, row


def _text(value: Any) -> str:
    """Raises: ValueError."""
    if not (isinstance(value, str) and value.strip() and is_unicode(value)):
        raise ValueError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    """Raises: ValueError."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{value!r} is no list of texts")
    return tuple(_text(item) for item in value)


def _capital(text: Any) -> str:
    return _text(text)[0].upper() + text[1:]
