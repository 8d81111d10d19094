"""The tasks: ids in, one service call. Names and arguments are what producers rely on."""

from __future__ import annotations

from celery.utils.dispatch import Signal

from worker import analysis, engine
from worker.celery_app import app
from worker.jobs import Claim
from worker.settings import current
from worker.store import Store

progressed = Signal(name="progressed")
"""Sent in this process while an analysis runs, with `analysis_id`, `stage` and `fraction` (0 to 1)."""


@app.task(name="videomind.analyse")
def analyse(analysis_ids: list[int]) -> None:
    """Answers the analyses with these ids; those that are not queued are somebody else's."""
    with Store(current().database_url) as store:
        analysis.run(analysis_ids, engine.loaded(), store, _report)


def _report(claim: Claim, stage: str, fraction: float) -> None:
    progressed.send(sender=analyse, analysis_id=claim.analysis_id, stage=stage, fraction=fraction)
