"""Predictions kept in a file as they come, one JSON object per line: a run goes on where the last stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from vm.errors import EvaluationError
from vm.evaluation.samples import Prediction
from vm.moments import Span

_FIELDS = frozenset(field.name for field in fields(Prediction))
_FIRST_KEY = b'{"key": "'  # how every line begins


class Journal:
    """Predictions by their key; use it as a context manager.

    A failed prediction is kept, and forgotten by the next run, which tries again.

    Args:
        path: the file, made where there is none; None keeps predictions in memory only.

    Raises:
        EvaluationError: the file cannot be read or written, or holds something else.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._known: dict[str, Prediction] = {}
        self._file: IO[str] | None = None
        if path is None:
            return
        try:
            if path.exists():
                self._known = {kept.key: kept for kept in _read(path) if kept.error is None}
            self._file = path.open("a", encoding="utf-8")
        except OSError as problem:
            raise EvaluationError(f"{path}: cannot be used: {problem.strerror}") from problem

    def get(self, key: str) -> Prediction | None:
        return self._known.get(key)

    def add(self, prediction: Prediction) -> None:
        """Keep a prediction; once this returns, no end of this process can lose it.

        Raises: EvaluationError.
        """
        self._known[prediction.key] = prediction
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_to_json(prediction)) + "\n")
            self._file.flush()
        except OSError as problem:
            raise EvaluationError(f"{self._file.name}: cannot be written: {problem.strerror}") from problem

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


def _read(path: Path) -> Iterator[Prediction]:
    """All whole lines; half a line at the end, as a process that was killed leaves it, is cut off."""
    with path.open("rb+") as file:
        whole = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n") and _FIRST_KEY.startswith(line[: len(_FIRST_KEY)]):
                file.truncate(whole)
                return
            whole += len(line)
            try:
                yield _from_json(json.loads(line))
            except (ValueError, TypeError, RecursionError) as problem:
                raise EvaluationError(
                    f"{path}, line {number}: no prediction of this program ({problem}); give another file"
                ) from problem


def _to_json(prediction: Prediction) -> dict[str, Any]:
    return asdict(prediction) | {"spans": [[span.start, span.end] for span in prediction.spans]}


def _from_json(content: Any) -> Prediction:
    """Raises: ValueError, TypeError."""
    if not isinstance(content, dict) or not content.keys() <= _FIELDS:
        raise ValueError("other fields than a prediction's")
    spans = tuple(Span(*bounds) for bounds in content.get("spans", ()))
    return Prediction(**content | {"spans": spans, "confidences": tuple(content.get("confidences", ()))})
