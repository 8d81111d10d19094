"""What becomes of a submission whose video nobody has seen yet, in one statement: for PostgreSQL, where each
is a way there and back.

Most submissions are like that. The statement does all that `worker.store.intake` does for them, or nothing
at all: where the video is known, its source or a generation is not, or standing questions are asked of its
collection, and where the submission is cancelled or somebody else's by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    CTE,
    Select,
    Text,
    Update,
    bindparam,
    column,
    exists,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql

from worker.archive_tables import StandingRow
from worker.columns import Clock
from worker.jobs import Intake, Request
from worker.masking import masked
from worker.store import asking, leases, search
from worker.store.listed import as_list, columns_of, everything_of, listed
from worker.store.sessions import Sessions
from worker.tables import Analysis, Collection, Generation, RequestRow, SourceRow, Submission, Video

NAMED = (
    select(SourceRow.id)
    .join(Collection)
    .where(Collection.name == bindparam("of_collection"), SourceRow.name == bindparam("of_source"))
)
"""The source of a collection, both by their names."""
_SOURCE = NAMED.scalar_subquery()
_COLLECTION = select(Collection.id).where(Collection.name == bindparam("of_collection")).scalar_subquery()
_GIVEN_OF_VIDEO = [each for each in columns_of(Video) if each.name not in ("source_id", "added_at")]
_KEY, _WORDS, _GENERATION = (column(name, Text) for name in ("key", "words", "generation"))


def register(
    sessions: Sessions,
    intake: Intake,
    video: Mapping[str, Any],
    place: Mapping[str, Any],
    wanted: asking.Wanted,
) -> list[int] | None:
    """The ids of the analyses that answer the requests, in their order. None, and nothing is done, where it
    takes more than one statement.

    Args:
        video: its columns, but for the URI.
        place: names of its collection and source, as `of_collection` and `of_source`.
    """
    submission = intake.submission
    if masked(submission.uri) != submission.uri:  # its secret is kept apart
        return None
    keys = asking.keys_of(submission.requests, video["sha256"], wanted)
    asked = dict(zip(keys, submission.requests, strict=True))
    given = {
        **leases.by(intake.lease),
        **place,
        "videos": as_list([{"uri": submission.uri, **video}]),
        "analyses": as_list([asking.new_columns(key, each, wanted) for key, each in asked.items()]),
        "about": as_list([_about(key, each, video, wanted) for key, each in asked.items()]),
        "places": as_list([{"position": place, "key": key} for place, key in enumerate(keys, start=1)]),
    }
    found = sessions.execute(_REGISTER, given)
    by_key = {row.idempotency_key: row.id for row in found}
    return [by_key[key] for key in keys] if found else None


def _about(key: str, request: Request, video: Mapping[str, Any], wanted: asking.Wanted) -> dict[str, str]:
    words = asking.words(request, video["recorded_at"], video["duration"])
    generation = asking.generation_key(wanted.fingerprint, request.settings)
    return {"key": key, "words": words, "generation": generation}


def _registering() -> Select[Any]:
    """Gives the new video's id, `of`, with each new analysis' id and key."""
    held = _held()
    video = _adding_video(held)
    added = _adding_analyses(video)
    about = listed("about", [_KEY, _WORDS])
    words = search.index_from(select(added.c.id, about.c.words).where(about.c.key == added.c.idempotency_key))
    found = select(video.c.id)
    end = update(Submission).values(
        **leases.ended(Submission), state="succeeded", video_id=found.scalar_subquery()
    )
    ids = select(video.c.id.label("of"), added.c.id, added.c.idempotency_key)
    return ids.outerjoin_from(video, added, true()).add_cte(
        words.cte("indexed"),
        end.where(Submission.id == held.c.id, exists(found)).cte("ended"),
        _answering(held, added).cte("answered"),
    )


def _answering(held: CTE, added: CTE) -> Update:
    places = listed("places", [*columns_of(RequestRow, "position"), _KEY])
    is_answer = RequestRow.position == places.c.position, added.c.idempotency_key == places.c.key
    answered = update(RequestRow).values(analysis_id=added.c.id)
    return answered.where(RequestRow.submission_id == held.c.id, *is_answer)


def _held() -> CTE:
    """The submission, where it is an ordinary one."""
    generations = listed("about", [_GENERATION])
    is_new = ~exists().where(Generation.key == generations.c.generation)
    is_odd = or_(
        exists(select(generations.c.generation).where(is_new)),
        exists().where(StandingRow.enabled, StandingRow.collection_id == _COLLECTION),
        bindparam("of_collection", type_=Text).is_not(None) & _SOURCE.is_(None),
    )
    usual = leases.held(Submission), Submission.cancel_requested.is_(False), ~is_odd
    return select(Submission.id).where(*usual).with_for_update().cte("held")


def _adding_video(held: CTE) -> CTE:
    given = listed("videos", _GIVEN_OF_VIDEO)
    row = select(_SOURCE, Clock(), everything_of(given)).join_from(held, given, true())
    names = ["source_id", "added_at", *(each.name for each in _GIVEN_OF_VIDEO)]
    add = postgresql.insert(Video).from_select(names, row)
    return add.on_conflict_do_nothing().returning(Video.id).cte("video")


def _adding_analyses(video: CTE) -> CTE:
    given = listed("analyses", columns_of(Analysis, *asking.NEW_COLUMNS))
    about = listed("about", [_KEY, _GENERATION])
    of_each = (
        select(video.c.id, Clock(), Generation.id, everything_of(given))
        .join_from(video, given, true())
        .join(about, about.c.key == given.c.idempotency_key)
        .join(Generation, Generation.key == about.c.generation)
    )
    names = ["video_id", "submitted_at", "generation_id", *asking.NEW_COLUMNS]
    add = insert(Analysis).from_select(names, of_each)
    return add.returning(Analysis.id, Analysis.idempotency_key).cte("added")


_REGISTER = _registering()
