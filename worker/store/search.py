"""Full-text search over questions, queries and answers: tsvector with GIN on PostgreSQL, FTS5 on SQLite.

Both keep their words in a table `search_index`. Analysts find its use in the SQL cookbook.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import column, false, select, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import SelectBase

from worker.columns import Columns, plain_text
from worker.tables import Analysis

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
_BEST = {
    "sqlite": "ORDER BY rank, analysis_id LIMIT :most",
    "postgresql": (
        "ORDER BY ts_rank(document, plainto_tsquery('simple', :words)) DESC, analysis_id LIMIT :most"
    ),
}


def index(session: Session, analyses: Sequence[Analysis | Columns], answer: str | None = None) -> None:
    """Keeps the words of analyses that are stored, in place of those they had."""
    texts = {row.id: "\n".join(filter(None, (row.question, row.query, answer))) for row in analyses}
    words = [{"id": id, "words": plain_text(text)} for id, text in texts.items()]
    if words:
        session.connection().execute(_ADD[_dialect(session)], words)


def find(session: Session, words: str, most: int) -> list[int]:
    """Ids of the analyses in which all the words occur, the best first."""
    if not (wanted := _wanted(session, words)):
        return []
    query = text(f"{_MATCH[_dialect(session)]} {_BEST[_dialect(session)]}")
    return list(session.scalars(query, {"words": wanted, "most": most}))


def matching(session: Session, words: str) -> SelectBase:
    """The same, all of them in no order, to be part of another query."""
    if not (wanted := _wanted(session, words)):
        return select(Analysis.id).where(false())
    return text(_MATCH[_dialect(session)]).bindparams(words=wanted).columns(column("analysis_id"))


def _wanted(session: Session, words: str) -> str:
    """The words as the database reads them; none where there is none to look for."""
    # What is no character in any text would be refused, and what holds no letter is no word.
    found = [word for word in re.findall(r"[^\s\0\ud800-\udfff]+", words) if re.search(r"\w", word)]
    if _dialect(session) == "sqlite":  # quoted, words are words: FTS5 would take AND or a star for its own
        found = ['"' + word.replace('"', '""') + '"' for word in found]
    return " ".join(found)


def _dialect(session: Session) -> str:
    return session.get_bind().dialect.name
