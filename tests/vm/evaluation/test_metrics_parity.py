"""The published evaluation's tables over the same 240 predictions."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from vm.evaluation.metrics import CGBENCH_FIGURES, FIGURES, Figure, Score, score
from vm.evaluation.samples import Prediction, Sample
from vm.moments import Span

RECORDED = Path(__file__).parents[2] / "parity" / "metrics"
PREDICTIONS = json.loads((RECORDED / "predictions.json").read_text())
EXPECTED = json.loads((RECORDED / "expected.json").read_text())
OURS = {"Acc (IoU >= 0.5)": "Acc (IoU ≥ 0.5)", "Acc (IoP >= 0.5)": "Acc (IoP ≥ 0.5)"}


def _score(row: dict[str, Any]) -> Score:
    options = tuple(row.get("options", ()))
    answer = options["ABCD".index(row["ans"])] if options else None
    spans = tuple(Span(*bounds) for bounds in row["span"])
    sample = Sample("a.mp4", "q", spans=spans, options=options, answer=answer)
    prediction = Prediction(
        *("key", sample.id, "a.mp4", "q", "published"),
        spans=tuple(Span(*bounds) for bounds in row["pred"]),
        fallback=not row["grounder_success"],
        reply=row.get("response"),
    )
    return score(sample, prediction)


SCORES = [(row["task"], _score(row)) for row in PREDICTIONS]


def _our_name(name: str, section: str) -> str:
    if section == "Grounding (IoP)" and name.startswith("R"):
        return f"{name} (IoP)"
    return OURS.get(name, name)


def _ours(figures: Mapping[str, Figure], table: dict[str, Any]) -> dict[str, float]:
    scores = [score for task, score in SCORES if table["Task"] in (task, "all")]
    worked = "replied" if table["section"] == "QA" else "localised"
    asked = [getattr(score, worked) for score in scores if getattr(score, worked) is not None]
    found: dict[str, float] = {"#Samples": len(asked), "Failed": asked.count(False)}
    for name in table.keys() - {"section", "Task", *found}:
        figure = figures[_our_name(name, table["section"])]
        values = [value for score in scores if (value := figure(score)) is not None]
        found[name] = round(100 * fmean(values), 2)
    return found


@pytest.mark.parametrize(("mode", "figures"), [("standard", FIGURES), ("cgbench", CGBENCH_FIGURES)])
def test_every_published_figure_comes_out_the_same(mode: str, figures: Mapping[str, Figure]) -> None:
    assert EXPECTED[mode]
    for table in EXPECTED[mode]:
        named = {key: value for key, value in table.items() if key not in ("section", "Task")}
        assert _ours(figures, table) == named, (table["section"], table["Task"])
