"""Full-text search over questions, queries and answers: tsvector with GIN on PostgreSQL, FTS5 on SQLite.

Both keep their words in a table `search_index`, and with them the days and months that a recording touches:
what was found at any other time need not be looked at. Analysts find its use in the SQL cookbook.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import column, false, select, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import SelectBase

from worker import daywords
from worker.columns import Columns, plain_text
from worker.store.sessions import together
from worker.tables import Analysis, AnswerRow, Video

# In FTS5 a row is found fast by its rowid only, which is the analysis' id here.
_ADD = {
    "sqlite": text(
        "INSERT OR REPLACE INTO search_index (rowid, analysis_id, document) VALUES (:id, :id, :words)"
    ),
    "postgresql": text(
        "INSERT INTO search_index (analysis_id, document) VALUES (:id, to_tsvector('simple', :words)) "
        "ON CONFLICT (analysis_id) DO UPDATE SET document = excluded.document"
    ),
}
_MATCH = {
    "sqlite": "SELECT analysis_id FROM search_index WHERE search_index MATCH :words",
    "postgresql": (
        "SELECT analysis_id FROM search_index WHERE document @@ plainto_tsquery('simple', :words)"
    ),
}
_MATCH_WITHIN = (
    "SELECT analysis_id FROM search_index "
    "WHERE document @@ (plainto_tsquery('simple', :words) && to_tsquery('simple', :days))"
)
_BEST = {
    "sqlite": "ORDER BY rank, analysis_id LIMIT :most",
    "postgresql": (
        "ORDER BY ts_rank(document, plainto_tsquery('simple', :words)) DESC, analysis_id LIMIT :most"
    ),
}


def index(
    session: Session, analyses: Sequence[Analysis | Columns], when: Sequence[str], answer: str | None = None
) -> None:
    """Keeps the words of analyses that are stored, in place of those they had.

    Args:
        when: the words for the time of their video: see `worker.daywords`.
    """
    texts = {row.id: "\n".join(filter(None, (row.question, row.query, answer, *when))) for row in analyses}
    words = [{"id": id, "words": plain_text(text)} for id, text in texts.items()]
    if words:
        session.connection().execute(_ADD[_dialect(session)], together(words))


def retime(session: Session, video: Video) -> None:
    """Keeps the words anew of all that was asked of a video, whose recording's start is known by now."""
    asked = select(Analysis, AnswerRow.text).outerjoin(AnswerRow).where(Analysis.video_id == video.id)
    when = daywords.touched(video.recorded_at, video.duration)
    for analysis, answer in session.execute(asked).all():
        index(session, [analysis], when, answer)


def find(session: Session, words: str, most: int) -> list[int]:
    """Ids of the analyses in which all the words occur, the best first."""
    if not (wanted := _wanted(session, words)):
        return []
    query = text(f"{_MATCH[_dialect(session)]} {_BEST[_dialect(session)]}")
    return list(session.scalars(query, {"words": wanted, "most": most}))


def matching(
    session: Session, words: str, since: datetime | None = None, until: datetime | None = None
) -> SelectBase:
    """The same, all of them in no order, to be part of another query.

    Args:
        since, until: of what was recorded at any other time, some may be missing.
    """
    if not (wanted := _wanted(session, words)):
        return select(Analysis.id).where(false())
    dialect = _dialect(session)
    days = daywords.within(since, until)
    if dialect == "postgresql" and days:
        query = text(_MATCH_WITHIN).bindparams(words=wanted, days=" | ".join(days))
    else:
        within = f" AND ({' OR '.join(days)})" if days else ""
        query = text(_MATCH[dialect]).bindparams(words=f"{wanted}{within}")
    return query.columns(column("analysis_id"))


def _wanted(session: Session, words: str) -> str:
    """The words as the database reads them; none where there is none to look for."""
    # What is no character in any text would be refused, and what holds no letter is no word.
    found = [word for word in re.findall(r"[^\s\0\ud800-\udfff]+", words) if re.search(r"\w", word)]
    if _dialect(session) == "sqlite":  # quoted, words are words: FTS5 would take AND or a star for its own
        found = ['"' + word.replace('"', '""') + '"' for word in found]
    return " ".join(found)


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name
