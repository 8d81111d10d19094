"""What the fake model finds in every video."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step, VideoFacts, Window

FINGERPRINT = os.environ.get("FAKE_FINGERPRINT", "f" * 64)
FACTS = VideoFacts("", 60.0, 25.0, 1500, 64, 48, "h264", 0, 0.0)
ROWS = {"candidates": 2, "moments": 2, "answers": 1, "coverage": 1}
"""How many rows of each table it becomes."""


def result(question: str, facts: VideoFacts = FACTS, warnings: Sequence[str] = ()) -> Result:
    found = (
        Candidate(Span(1, 2), 0.9, False, 0.2, 0.6, 0.4),
        Candidate(Span(5, 9), 0.5, False, 0.9, 0.1, 0.7),
    )
    return Result(
        question=question,
        mode="auto",
        options=(),
        plan=Plan((Step("grounder", question),)),
        query=question,
        candidates=found,
        moments=rank_moments(found, question),
        answer=Answer("yes", None, Span(5, 9)),
        video=facts,
        fingerprint=FINGERPRINT,
        warnings=tuple(warnings),
        seconds={"total": 0.05},
        windows=(Window(Span(0, 60), 120, 0.9),),
    )
