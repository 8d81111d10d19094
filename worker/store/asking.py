"""Analyses come to be here: one for each question, video, checkpoint and settings, however often asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.orm import Session

from worker import daywords, rows
from worker.columns import Clock
from worker.jobs import NORMAL, AskSettings, Request, digest
from worker.store import search, switching
from worker.store.listed import columns_of
from worker.store.sessions import attached, dialect_of, found_or_added, new
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
_UNTOUCHED = {name: value for name, value in rows.untouched().items() if value is not None}
_OF_IT = ("idempotency_key", "fingerprint", "asked_key", "run_id")
NEW_COLUMNS = (*_OF_IT, *rows.REQUEST_COLUMNS, *_UNTOUCHED, "progress", "current")
"""What `new_columns` gives."""
_GIVEN = columns_of(Analysis, "video_id", *NEW_COLUMNS)
# Adds an analysis to a generation that is there; its values have `new_` before their names.
_ADD = (
    insert(Analysis)
    .from_select(
        [*(each.name for each in _GIVEN), "submitted_at", "generation_id"],
        select(
            *(bindparam(f"new_{each.name}", type_=each.type) for each in _GIVEN), Clock(), Generation.id
        ).where(Generation.key == bindparam("of_generation")),
    )
    .returning(Analysis.id)
)
_ADD_INDEXED = search.indexed(_ADD.cte("new"))


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
    keys = keys_of(requests, video.sha256, wanted)
    by_key = {} if is_new else {row.idempotency_key: row for row in _known(session, keys)}
    for row in by_key.values():
        _ask_again(row, wanted.priority)
    unasked = {key: request for key, request in zip(keys, requests, strict=True) if key not in by_key}
    added_now = {key: _new(session, video, key, request, wanted) for key, request in unasked.items()}
    return [(by_key | added_now)[key] for key in keys]


def _known(session: Session, keys: Sequence[str]) -> Sequence[Analysis]:
    ids = session.connection().scalars(_KNOWN, {"keys": keys}).all()  # mostly none: then no rows are made
    return session.scalars(select(Analysis).where(Analysis.id.in_(ids))).all() if ids else ()


def want_now(session: Session, row: Analysis) -> None:
    """Somebody waits for it: readers see it from its own end on, whatever run asked for it before."""
    if row.run_id is not None:
        row.run_id = None
    if row.state == "succeeded":
        switching.make_current(session, [row])


def keys_of(requests: Sequence[Request], sha256: str, wanted: Wanted) -> list[str]:
    """What the requests are, when put to a video, in their order."""
    return [request.key(sha256, wanted.fingerprint, wanted.repetition) for request in requests]


def new_columns(key: str, request: Request, wanted: Wanted) -> dict[str, Any]:
    """The columns of an analysis that nobody has touched yet, but for the ids of video and generation."""
    return {
        "idempotency_key": key,
        "fingerprint": wanted.fingerprint,
        "asked_key": request.asked_key,
        "run_id": wanted.run_id,
        **rows.request_columns(request),
        **_UNTOUCHED,
        "priority": wanted.priority,
        "progress": 0.0,
        "current": False,
    }


def words(request: Request, recorded_at: datetime | None, duration: float | None) -> str:
    """By which the question can be found before it has been answered."""
    return search.words((request.question, *daywords.touched(recorded_at, duration)))


def generation_key(fingerprint: str, settings: AskSettings) -> str:
    """What all results with this checkpoint and these settings have in common."""
    return digest({"fingerprint": fingerprint, "settings": asdict(settings)})


def _new(session: Session, video: Video, key: str, request: Request, wanted: Wanted) -> Analysis:
    columns = {"video_id": video.id, **new_columns(key, request, wanted)}
    generation = generation_key(wanted.fingerprint, request.settings)
    given = {"of_generation": generation, **new(columns)}
    found_by = words(request, video.recorded_at, video.duration)
    id = _added(session, given, found_by)
    if id is None:
        _begin_generation(session, generation, wanted.fingerprint, request.settings)
        id = _added(session, given, found_by)
    return attached(session, Analysis(id=id, **columns))


def _added(session: Session, given: dict[str, object], found_by: str) -> int | None:
    """The id of the new analysis; None where its generation is not there."""
    connection = session.connection()
    if dialect_of(session) == "postgresql":
        return connection.scalar(_ADD_INDEXED, {**given, "words": found_by})
    id = connection.scalar(_ADD, given)
    if id is not None:
        search.index(connection, {id: found_by})
    return id


def _begin_generation(session: Session, key: str, fingerprint: str, settings: AskSettings) -> None:
    row = Generation(key=key, fingerprint=fingerprint, settings=asdict(settings), begun_at=Clock())
    found_or_added(session, select(Generation).filter_by(key=key), row)
    session.flush()


def _ask_again(row: Analysis, priority: int) -> None:
    """What has ended without a result is queued again; what was to be cancelled is wanted after all."""
    if row.state in ("failed", "cancelled"):
        for name, value in rows.asked_anew(Clock()).items():
            setattr(row, name, value)
        row.progress, row.stage = 0.0, None
    row.priority = max(row.priority, priority)
    row.cancel_requested = False
