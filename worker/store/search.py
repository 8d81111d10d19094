"""Full-text search over questions, queries and answers: tsvector with GIN on PostgreSQL, FTS5 on SQLite.

Both keep their words in a table `search_index`, and with them the days and months that a recording touches:
what was found at any other time need not be looked at. Analysts find its use in the SQL cookbook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import (
    CTE,
    BigInteger,
    Connection,
    Insert,
    Select,
    Text,
    bindparam,
    column,
    false,
    select,
    table,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import SelectBase

from worker import daywords
from worker.columns import plain_text
from worker.store.sessions import dialect_of, together
from worker.tables import Analysis, AnswerRow, Video

_INDEX = table("search_index", column("analysis_id", BigInteger), column("document", postgresql.TSVECTOR))
_WORDS = bindparam("words", type_=Text)
# In FTS5 a row is found fast by its rowid only, which is the analysis' id here.
_ADD_TO_FTS5 = text(
    "INSERT OR REPLACE INTO search_index (rowid, analysis_id, document) VALUES (:of, :of, :words)"
)
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


def words(texts: Iterable[str | None]) -> str:
    """What is kept of an analysis: of its question, query and answer as far as there are any, and the words
    for the time of its video: see `worker.daywords`."""
    return plain_text("\n".join(filter(None, texts)))


def indexed(kept: CTE) -> Select[int]:
    """On PostgreSQL: keeps an analysis, which the CTE does and gives its id, and its `words`, a parameter."""
    return select(kept.c.id).add_cte(index_from(select(kept.c.id, _WORDS)).cte("indexed"))


def index_from(found: Select[int, str]) -> Insert:
    """On PostgreSQL: keeps the words of analyses, found with their ids, in place of those they had."""
    each = found.subquery()
    id, words = each.c
    document = postgresql.to_tsvector("simple", words)
    keep = postgresql.insert(_INDEX).from_select(_INDEX.c.keys(), select(id, document))
    return keep.on_conflict_do_update(
        index_elements=[_INDEX.c.analysis_id], set_={"document": keep.excluded.document}
    )


_INDEX_IN_POSTGRESQL = index_from(select(bindparam("of", type_=BigInteger), _WORDS))


def index(connection: Connection, of_each: Mapping[int, str]) -> None:
    """Keeps the words of analyses that are stored, by their ids, in place of those they had."""
    if of_each:
        add = _INDEX_IN_POSTGRESQL if dialect_of(connection) == "postgresql" else _ADD_TO_FTS5
        given = [{"of": id, "words": found} for id, found in of_each.items()]
        connection.execute(add, together(given))


def retime(session: Session, video: Video) -> None:
    """Keeps the words anew of all that was asked of a video, whose recording's start is known by now."""
    asked = select(Analysis, AnswerRow.text).outerjoin(AnswerRow).where(Analysis.video_id == video.id)
    when = daywords.touched(video.recorded_at, video.duration)
    found = session.execute(asked).all()
    index(
        session.connection(),
        {row.id: words((row.question, row.query, answer, *when)) for row, answer in found},
    )


def find(session: Session, words: str, most: int) -> list[int]:
    """Ids of the analyses in which all the words occur, the best first."""
    if not (wanted := _wanted(session, words)):
        return []
    query = text(f"{_MATCH[dialect_of(session)]} {_BEST[dialect_of(session)]}")
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
    dialect = dialect_of(session)
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
    if dialect_of(session) == "sqlite":  # quoted, words are words: FTS5 would take AND or a star for its own
        found = ['"' + word.replace('"', '""') + '"' for word in found]
    return " ".join(found)
