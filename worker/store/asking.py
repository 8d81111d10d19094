"""Analyses come to be here: one for each question, video, checkpoint and settings, however often asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from worker import daywords, rows
from worker.columns import Clock
from worker.jobs import NORMAL, AskSettings, Request, digest
from worker.store import search, switching
from worker.store.sessions import added, found_or_added
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


_KNOWN = (
    select(Analysis.id)
    .where(Analysis.idempotency_key.in_(bindparam("keys", expanding=True)))
    .order_by(Analysis.id)
    .with_for_update()
)
_GENERATION = select(Generation.id).where(Generation.key == bindparam("key"))


def ask(
    session: Session, video: Video, requests: Sequence[Request], wanted: Wanted, is_new: bool = False
) -> list[Analysis]:
    """The analyses that answer the requests, new or known, in their order.

    What failed or was cancelled is queued again; what is queued, running or answered stays as it is. Whoever
    calls has locked the video's row.

    Args:
        is_new: nothing has been asked of the video yet.
    """
    if not requests:
        return []
    keys = [request.key(video.sha256, wanted.fingerprint, wanted.repetition) for request in requests]
    by_key = {} if is_new else {row.idempotency_key: row for row in _known(session, keys)}
    for row in by_key.values():
        _ask_again(row, wanted.priority)
    new = {key: request for key, request in zip(keys, requests, strict=True) if key not in by_key}
    settings = dict.fromkeys(request.settings for request in new.values())
    made = {each: generation(session, wanted.fingerprint, each) for each in settings}
    added_now = {
        key: _new(session, video, key, request, wanted, made[request.settings])
        for key, request in new.items()
    }
    when = daywords.touched(video.recorded_at, video.duration)
    search.index(session, [search.words(row.id, (row.question, *when)) for row in added_now.values()])
    return [(by_key | added_now)[key] for key in keys]


def _known(session: Session, keys: Sequence[str]) -> Sequence[Analysis]:
    ids = session.connection().scalars(_KNOWN, {"keys": keys}).all()  # mostly none: then no rows are made
    return session.scalars(select(Analysis).where(Analysis.id.in_(ids))).all() if ids else ()


def want_now(session: Session, row: Analysis) -> None:
    """Somebody waits for it: readers see it from its own end on, whatever run asked for it before."""
    row.run_id = None
    if row.state == "succeeded":
        switching.make_current(session, [row])


def generation(session: Session, fingerprint: str, settings: AskSettings) -> int:
    """The id of the generation that results with this checkpoint and these settings belong to."""
    key = digest({"fingerprint": fingerprint, "settings": asdict(settings)})
    known = session.connection().scalar(_GENERATION, {"key": key})
    if known is not None:
        return int(known)
    new = Generation(key=key, fingerprint=fingerprint, settings=asdict(settings), begun_at=Clock())
    row = found_or_added(session, select(Generation).filter_by(key=key), new)
    session.flush()
    return row.id


def _new(
    session: Session, video: Video, key: str, request: Request, wanted: Wanted, generation_id: int
) -> Analysis:
    row = added(
        session,
        Analysis,
        video_id=video.id,
        idempotency_key=key,
        fingerprint=wanted.fingerprint,
        progress=0.0,
        query=None,
        asked_key=request.asked_key,
        current=False,
        generation_id=generation_id,
        run_id=wanted.run_id,
        **rows.request_columns(request),
        **rows.untouched(wanted.priority),
    )
    if row is None:  # nobody else adds any to a video whose row is locked
        raise RuntimeError(f"analysis {key} is there, and was not found")
    return row


def _ask_again(row: Analysis, priority: int) -> None:
    """What has ended without a result is queued again; what was to be cancelled is wanted after all."""
    if row.state in ("failed", "cancelled"):
        for name, value in rows.asked_anew(Clock()).items():
            setattr(row, name, value)
        row.progress, row.stage = 0.0, None
    row.priority = max(row.priority, priority)
    row.cancel_requested = False
