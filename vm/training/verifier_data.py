"""Verifier data from a grounder: its best spans for each query, labelled by how well they fit.

As published (`videomind/dataset/wrappers/verifying.py`): the five best, Yes where the IoU with a true span
is at least 0.5.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from vm.chain import Progress
from vm.config import ChainSettings
from vm.errors import CheckpointError, MissingRole, TrainingDataError, TrainingError, VideoMindError
from vm.mind import VideoMind, Watched
from vm.training.rows import Row

POSITIVE_IOU = 0.5

Labelled = dict[str, Any]


def make_verifier_data(
    mind: VideoMind,
    rows: Sequence[Row],
    out: Path,
    chain: ChainSettings,
    report: Callable[[str], None],
    progress: Progress,
) -> tuple[int, int]:
    """Write `out` whole or not at all. What an interrupted run has found stands beside it, and is used.

    Args:
        rows: a grounder's.
        report: gets a line for each video or query that cannot be worked on.
        progress: called with the fraction of rows done.

    Returns:
        how many candidates are labelled Yes, and how many No.

    Raises:
        CheckpointError: the checkpoint has no grounder, or gives no finite numbers.
        TrainingDataError: no video can be read, or no moment is found in any.
        TrainingError: a file cannot be written, or the one beside `out` is of another run.
    """
    if not mind.cast.has("grounder"):
        raise MissingRole("the checkpoint has no grounder, who proposes what the verifier is to judge")
    partial = out.with_name(f"{out.name}.partial")
    try:
        known = _resume(partial, _identity(mind, rows, chain))
        with partial.open("a", encoding="utf-8") as journal:
            missing = [row for row in rows if row.line not in known]
            for row, found in _ground(mind, missing, out.parent, chain, report):
                known[row.line] = found
                journal.write(json.dumps({"line": row.line, "found": found}) + "\n")
                journal.flush()
                progress("grounder", len(known) / len(rows))
        return _publish(partial, out, [known.get(row.line, []) for row in rows])
    except OSError as error:
        raise TrainingError(f"{out}: cannot be written: {error.strerror}") from error


def _identity(mind: VideoMind, rows: Sequence[Row], chain: ChainSettings) -> str:
    """Of all that decides what comes out."""
    asked = [(row.line, str(row.video), row.text, [(s.start, s.end) for s in row.spans]) for row in rows]
    everything = json.dumps([mind.fingerprint, asked, asdict(chain)])
    return hashlib.sha256(everything.encode()).hexdigest()


def _resume(partial: Path, identity: str) -> dict[int, list[Labelled]]:
    """What an earlier run has found, by line; a line it was killed in the middle of is cut off."""
    if not partial.exists():
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps({"of": identity}) + "\n", encoding="utf-8")
    whole = [
        line for line in partial.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"
    ]
    try:
        header, *entries = [json.loads(line) for line in whole]
        if header != {"of": identity}:
            raise ValueError
        known = {entry["line"]: entry["found"] for entry in entries}
    except (ValueError, TypeError, KeyError):
        raise TrainingError(
            f"{partial} is of a run with other data, weights or settings; remove it"
        ) from None
    partial.write_text("".join(whole), encoding="utf-8")
    return known


def _ground(
    mind: VideoMind, rows: Sequence[Row], folder: Path, chain: ChainSettings, report: Callable[[str], None]
) -> Iterator[tuple[Row, list[Labelled]]]:
    """The rows with what is found for each; those that cannot be worked on are left out."""
    for video, group in groupby(sorted(rows, key=lambda row: str(row.video)), key=lambda row: row.video):
        try:
            watched = mind.open(video, chain)
        except VideoMindError as error:
            report(f"skipped: {error}")
            continue
        with watched:
            for row in group:
                try:
                    yield row, _label(watched, row, folder, chain)
                except CheckpointError:
                    raise
                except VideoMindError as error:
                    report(f"skipped line {row.line}: {error}")


def _label(watched: Watched, row: Row, folder: Path, chain: ChainSettings) -> list[Labelled]:
    result = watched.ask(row.text, mode="ground", window=chain.window, verify=False)
    candidates = [candidate for candidate in result.candidates if not candidate.fallback]
    video = os.path.relpath(row.video, folder)
    return [
        {
            "video": video,
            "query": row.text,
            "candidate": [round(candidate.span.start, 3), round(candidate.span.end, 3)],
            "label": "Yes" if iou >= POSITIVE_IOU else "No",
            "iou": round(iou, 4),
        }
        for candidate in candidates
        for iou in [max(candidate.span.iou(span) for span in row.spans)]
    ]


def _publish(partial: Path, out: Path, found: Sequence[list[Labelled]]) -> tuple[int, int]:
    labelled = [entry for entries in found for entry in entries]
    if not labelled:
        raise TrainingDataError("the grounder found no moment in any of the videos")
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    draft.write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in labelled), encoding="utf-8")
    draft.replace(out)
    partial.unlink()
    positive = sum(entry["label"] == "Yes" for entry in labelled)
    return positive, len(labelled) - positive
