"""Sources: the cameras and halls that videos come from, and how each writes times into its files' names."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.jobs import Submission
from worker.store.sessions import Sessions, found_or_added
from worker.tables import Collection, SourceRow, Video


@dataclass(frozen=True)
class Source:
    """One that videos come from, and how many have come.

    Its name is empty where only the collection was said. `recorded_at_pattern` and `time_zone` tell when its
    recordings began: see `worker.recording`.
    """

    collection: str
    source: str
    recorded_at_pattern: str | None
    time_zone: str | None
    videos: int


class Sources:
    """The tables `collections` and `sources`."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def describe(self, collection: str, source: str, pattern: str | None, time_zone: str | None) -> None:
        """Adds a source, or says anew how its files' names tell when they were recorded."""
        with self._sessions.begin() as session:
            row = known_source(session, known_collection(session, collection), source)
            row.recorded_at_pattern, row.time_zone = pattern, time_zone

    def naming(self, submission: Submission) -> tuple[str | None, str | None]:
        """The file name pattern and time zone of a submission's source, if it has any and they are needed."""
        told = submission.recorded_at
        if submission.source is None or (told and told.tzinfo):
            return None, None
        query = (
            select(SourceRow.recorded_at_pattern, SourceRow.time_zone)
            .join(Collection)
            .where(Collection.name == submission.collection, SourceRow.name == submission.source)
        )
        with self._sessions.begin() as session:
            found = session.execute(query).one_or_none()
            return (found[0], found[1]) if found else (None, None)

    def all(self) -> list[Source]:
        """By collection and name."""
        videos = select(func.count()).where(Video.source_id == SourceRow.id).scalar_subquery()
        query = (
            select(
                Collection.name, SourceRow.name, SourceRow.recorded_at_pattern, SourceRow.time_zone, videos
            )
            .join_from(SourceRow, Collection)
            .order_by(Collection.name, SourceRow.name)
        )
        with self._sessions.reading() as session:
            return [Source(*row) for row in session.execute(query)]


def known_collection(session: Session, name: str) -> Collection:
    """Its row, as it is or new."""
    return found_or_added(session, select(Collection).filter_by(name=name), Collection(name=name))


def known_source(session: Session, collection: Collection, name: str) -> SourceRow:
    """Its row, as it is or new."""
    named = {"collection_id": collection.id, "name": name}
    return found_or_added(session, select(SourceRow).filter_by(**named), SourceRow(**named))
