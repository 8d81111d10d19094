"""How good a prediction is: one frozen Score per sample, and the named figures that are means over them.

The rules are those of the published `videomind/eval/eval_auto.py`, with one difference: what was not
predicted counts as wrong here, where the published evaluation leaves it out of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from types import MappingProxyType
from typing import Any

from vm.evaluation.samples import Prediction, Sample
from vm.moments import Span
from vm.roles.planner import fold_query

THRESHOLDS = (0.3, 0.5, 0.7)
DEPTHS = (1, 3, 5)
CGBENCH_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
_HIT = 0.5  # IoU or IoP from which an answer counts as grounded


@dataclass(frozen=True)
class Score:
    """One prediction held against the truth; None wherever the sample asks nothing of the kind.

    Attributes:
        route: the planner chose the right plan.
        query: it wrote the right query.
        ious, iops: of each predicted span, best first, with the true span that suits it best.
        union_iou: of the best predicted span with all true spans together, as CG-Bench has it.
        localised: the grounder found something.
        answer: the right option was chosen; `replied`: any was.
    """

    route: bool | None = None
    query: bool | None = None
    ious: tuple[float, ...] | None = None
    iops: tuple[float, ...] | None = None
    union_iou: float | None = None
    localised: bool | None = None
    answer: bool | None = None
    replied: bool | None = None


Figure = Callable[[Score], float | None]


def score(sample: Sample, prediction: Prediction) -> Score:
    """A failed prediction, or one that leaves out what was asked for, is wrong."""
    return Score(
        **_planning(sample, prediction), **_grounding(sample, prediction), **_answering(sample, prediction)
    )


def _planning(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    if sample.mode is None or not prediction.planned:
        return {}
    right = {"route": prediction.route == sample.mode}
    if sample.query is None:
        return right
    return right | {"query": fold_query(prediction.query or "") == fold_query(sample.query)}


def _grounding(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    if not sample.spans:
        return {}
    spans = prediction.spans
    return {
        "ious": tuple(max(span.iou(true) for true in sample.spans) for span in spans),
        "iops": tuple(max(span.iop(true) for true in sample.spans) for span in spans),
        "union_iou": union_iou(spans[0], sample.spans) if spans else 0.0,
        "localised": bool(spans) and not prediction.fallback,
    }


def _answering(sample: Sample, prediction: Prediction) -> dict[str, Any]:
    if not sample.options:
        return {}
    chosen = chosen_option(prediction.reply or "", len(sample.options))
    right = chosen is not None and sample.options[chosen] == sample.answer
    return {"answer": right, "replied": chosen is not None}


def union_iou(span: Span, truths: Sequence[Span]) -> float:
    """CG-Bench's IoU of one span with several; those that overlap are counted twice, as published."""
    shared = sum(span.intersection(true) for true in truths)
    union = span.length + sum(true.length for true in truths) - shared
    return shared / union if union > 0 else 0.0


def chosen_option(reply: str, count: int) -> int | None:
    """Which of `count` options a reply names ("B", "(b) the dog", "b."), or None where it names none.

    As published, only the first letter of the first word is looked at.
    """
    word = reply.lower().split(" ")[0].translate(str.maketrans("", "", "()."))
    place = ascii_lowercase[:count].find(word[:1])
    return place if word and place >= 0 else None


def _as_number(field: str, score: Score) -> float | None:
    value = getattr(score, field)
    return None if value is None else float(value)


def _best(field: str, depth: int, score: Score) -> float | None:
    values = getattr(score, field)
    return None if values is None else max(values[:depth], default=0.0)


def _recall(field: str, depth: int, threshold: float, score: Score) -> float | None:
    best = _best(field, depth, score)
    return None if best is None else float(best >= threshold)


def _grounded_answer(field: str, score: Score) -> float | None:
    if score.answer is None or score.ious is None:
        return None
    return float(score.answer and (_best(field, 1, score) or 0.0) >= _HIT)


def _union_recall(threshold: float, score: Score) -> float | None:
    return None if score.union_iou is None else float(score.union_iou >= threshold)


def _mean_union_recall(score: Score) -> float | None:
    hits = [_union_recall(threshold, score) for threshold in CGBENCH_THRESHOLDS]
    return None if score.union_iou is None else sum(hit or 0.0 for hit in hits) / len(hits)


def _mean_union_answer(score: Score) -> float | None:
    recall = _mean_union_recall(score)
    return None if score.answer is None or recall is None else score.answer * recall


def _recalls(field: str, suffix: str) -> dict[str, Figure]:
    return {
        f"R{depth}@{least}{suffix}": partial(_recall, field, depth, least)
        for depth in DEPTHS
        for least in THRESHOLDS
    }


FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        "Route": partial(_as_number, "route"),
        "Query": partial(_as_number, "query"),
        **_recalls("ious", ""),
        "mIoU": partial(_best, "ious", 1),
        **_recalls("iops", " (IoP)"),
        "mIoP": partial(_best, "iops", 1),
        "Localised": partial(_as_number, "localised"),
        "Acc": partial(_as_number, "answer"),
        "Acc (IoU ≥ 0.5)": partial(_grounded_answer, "ious"),
        "Acc (IoP ≥ 0.5)": partial(_grounded_answer, "iops"),
        "Replied": partial(_as_number, "replied"),
    }
)

CGBENCH_FIGURES: Mapping[str, Figure] = MappingProxyType(
    {
        **{f"R1@{least}": partial(_union_recall, least) for least in CGBENCH_THRESHOLDS},
        "mIoU": partial(_as_number, "union_iou"),
        "rec.@IoU": _mean_union_recall,
        "long-acc.": partial(_as_number, "answer"),
        "acc.@IoU": _mean_union_answer,
    }
)
