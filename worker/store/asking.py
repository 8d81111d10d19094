"""Analyses come to be here: one for each question, video, checkpoint and settings, however often asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker import rows
from worker.jobs import NORMAL, AskSettings, Request, digest
from worker.store import leases, search, switching
from worker.store.sessions import found_or_added
from worker.tables import Analysis, Generation, Video


@dataclass(frozen=True)
class Wanted:
    """By whom and how urgently it is asked.

    Attributes:
        repetition: tells one that was insisted on from the first time.
        run_id: the re-indexing run that asks.
    """

    fingerprint: str
    priority: int = NORMAL
    repetition: str = ""
    run_id: int | None = None


def ask(session: Session, video: Video, requests: Sequence[Request], wanted: Wanted) -> list[Analysis]:
    """The analyses that answer the requests, new or known, in their order.

    What failed or was cancelled is queued again; what is queued, running or answered stays as it is. Whoever
    calls has locked the video's row.
    """
    if not requests:
        return []
    keys = [request.key(video.sha256, wanted.fingerprint, wanted.repetition) for request in requests]
    known = select(Analysis).where(Analysis.idempotency_key.in_(keys)).order_by(Analysis.id)
    by_key = {row.idempotency_key: row for row in session.scalars(known.with_for_update())}
    for row in by_key.values():
        _ask_again(row, wanted.priority, leases.clock(session))
    new = {key: request for key, request in zip(keys, requests, strict=True) if key not in by_key}
    settings = dict.fromkeys(request.settings for request in new.values())
    made = {each: generation(session, wanted.fingerprint, each) for each in settings}
    added = {
        key: _new(session, video, key, request, wanted, made[request.settings])
        for key, request in new.items()
    }
    session.add_all(added.values())
    search.index(session, list(added.values()))
    return [(by_key | added)[key] for key in keys]


def want_now(session: Session, row: Analysis) -> None:
    """Somebody waits for it: readers see it from its own end on, whatever run asked for it before."""
    row.run_id = None
    if row.state == "succeeded":
        switching.make_current(session, [row])


def generation(session: Session, fingerprint: str, settings: AskSettings) -> int:
    """The id of the generation that results with this checkpoint and these settings belong to."""
    key = digest({"fingerprint": fingerprint, "settings": asdict(settings)})
    new = Generation(
        key=key, fingerprint=fingerprint, settings=asdict(settings), begun_at=leases.clock(session)
    )
    row = found_or_added(session, select(Generation).filter_by(key=key), new)
    session.flush()
    return row.id


def _new(
    session: Session, video: Video, key: str, request: Request, wanted: Wanted, generation_id: int
) -> Analysis:
    return Analysis(
        video_id=video.id,
        idempotency_key=key,
        fingerprint=wanted.fingerprint,
        progress=0.0,
        asked_key=request.asked_key,
        current=False,
        generation_id=generation_id,
        run_id=wanted.run_id,
        **rows.request_columns(request),
        **rows.new_job(leases.clock(session), wanted.priority),
    )


def _ask_again(row: Analysis, priority: int, moment: object) -> None:
    """What has ended without a result is queued again; what was to be cancelled is wanted after all."""
    if row.state in ("failed", "cancelled"):
        for name, value in rows.asked_anew(moment).items():
            setattr(row, name, value)
        row.progress, row.stage = 0.0, None
    row.priority = max(row.priority, priority)
    row.cancel_requested = False
