"""Samples and predictions for tests, in one line each."""

from typing import Any

from vm.evaluation.samples import Prediction, Sample
from vm.moments import Span


def sample(video: str = "a.mp4", question: str = "When?", **known: Any) -> Sample:
    """`spans` as pairs of seconds."""
    known["spans"] = tuple(Span(*bounds) for bounds in known.get("spans", ()))
    return Sample(video, question, **known)


def prediction(of: Sample, *spans: tuple[float, float], key: str = "key", **found: Any) -> Prediction:
    """What `chain` said of a sample."""
    fields = {"system": "chain", "duration": 60.0} | found
    return Prediction(
        key=key,
        sample=of.id,
        video=of.video,
        question=of.question,
        spans=tuple(Span(*bounds) for bounds in spans),
        **fields,
    )
