"""Millions of moments that might have been found, made by SQL inside the database.

200 cameras at ten sites record a quarter of an hour every 4.2 hours. Four questions are put to each
recording, each finds one to five moments: twelve moments a recording, two years for ten million. What is
asked and answered is made of words of which some are much more common than others. One answer in twenty is
from a model that has been replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, inspect, text

from tests.benchmarks.made_words import COLOURS, DOINGS, PLACES, THINGS, draw, word

CAMERAS, SITES = 200, 10
QUESTIONS, MOST_MOMENTS = 4, 5  # of a recording; of a question, each number of them as often
MOMENTS = QUESTIONS * (1 + MOST_MOMENTS) // 2  # of a recording
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
LENGTH, EVERY = 900, 15_120  # seconds: of a recording, and from one to the camera's next
_BATCH = 20_000  # recordings

Columns = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """What to fill a table with: SQL for each column, over numbers `n` from 0.

    Attributes:
        per_recording: rows for each recording; 0 where the table is filled once, with `once` rows.
        joined: what `n` is joined with.
        optional: for columns that not every version of the tables has.
    """

    name: str
    columns: Columns
    per_recording: int = 0
    once: int = 0
    joined: str = ""
    optional: Columns | None = None


class UnknownColumns(Exception):
    """The tables are not as this file knows them: add what is missing to `_tables`."""


def recordings(moments: int) -> int:
    """How many recordings have about so many moments."""
    return max(CAMERAS, moments // MOMENTS)


def end(moments: int) -> datetime:
    """When the last of them was recorded."""
    return FIRST + timedelta(seconds=EVERY * recordings(moments) // CAMERAS)


def fill(engine: Engine, moments: int, report: Callable[[str, float], None]) -> None:
    """Fills empty tables, of this program's version, with about so many moments and all that belongs to them.

    Args:
        report: told of each table's name and the fraction of it that is there.

    Raises:
        UnknownColumns: a column must have a value that nobody has thought of here.
    """
    there = inspect(engine).get_table_names()
    tables = [table for table in _tables(Dialect(engine.dialect.name == "sqlite")) if table.name in there]
    chosen = {table.name: _chosen(engine, table) for table in tables}
    total = recordings(moments)
    for table in tables:
        steps = range(0, total if table.per_recording else 1, _BATCH)
        for first in steps:
            count = min(_BATCH, total - first) * table.per_recording or table.once
            with engine.begin() as connection:
                _load_quickly(connection)
                _insert(connection, table, chosen[table.name], first * table.per_recording, count)
            report(table.name, min(1.0, (first + _BATCH) / total) if table.per_recording else 1.0)


def _load_quickly(connection: Connection) -> None:
    """What refers to what is right by construction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL session_replication_role = replica"))


def _insert(connection: Connection, table: Table, columns: Columns, first: int, count: int) -> None:
    # PostgreSQL wants both parts of a recursion to be of one type, and products of numbers need 64 bits.
    statement = (
        f"INSERT INTO {table.name} ({', '.join(columns)}) "
        "WITH RECURSIVE numbers (n) AS (SELECT CAST(:first AS BIGINT) UNION ALL "
        "SELECT n + 1 FROM numbers WHERE n < CAST(:last AS BIGINT)) "
        f"SELECT {', '.join(columns.values())} FROM numbers {table.joined}"
    )
    connection.execute(text(statement), {"first": first, "last": first + count - 1})


def _chosen(engine: Engine, table: Table) -> Columns:
    """SQL for those of a table's columns that are there."""
    there = {column["name"]: column for column in inspect(engine).get_columns(table.name)}
    chosen = {**table.columns, **{n: sql for n, sql in (table.optional or {}).items() if n in there}}
    left = {
        name
        for name, column in there.items()
        if not (column["nullable"] or column["default"] or column.get("autoincrement") is True)
    } - chosen.keys()
    if engine.dialect.name == "sqlite":
        left.discard("id")  # numbers itself
        there["rowid"] = {}
    if left or chosen.keys() - there:
        raise UnknownColumns(f"{table.name}: without a value {left}, not there {chosen.keys() - there}")
    return chosen


@dataclass(frozen=True)
class Dialect:
    """What databases write differently."""

    sqlite: bool

    @property
    def key(self) -> str:
        """64 characters that no other row has."""
        return "printf('%064d', n)" if self.sqlite else "lpad(CAST(n AS TEXT), 64, '0')"

    def instant(self, seconds: str) -> str:
        """From seconds since 1970; on SQLite as the program writes them: texts of one length, which sort."""
        if self.sqlite:
            return f"strftime('%Y-%m-%d %H:%M:%S', {seconds}, 'unixepoch') || '.000000'"
        return f"to_timestamp({seconds})"

    def days(self, began: str, ended: str) -> str:
        """The words for the days and months of two instants, in seconds since 1970: see `worker.daywords`."""
        if self.sqlite:
            each = [f"strftime('%Y%m', {at}, 'unixepoch')" for at in (began, ended)]
            day = [f"strftime('%Y%m%d', {at}, 'unixepoch')" for at in (began, ended)]
            named = [f"'day' || {d} || ' month' || {m}" for d, m in zip(day, each, strict=True)]
            return f"{named[0]} || CASE WHEN {day[0]} = {day[1]} THEN '' ELSE ' ' || {named[1]} END"
        told = [f'to_char(to_timestamp({at}), \'"day"YYYYMMDD "month"YYYYMM\')' for at in (began, ended)]
        return " || ' ' || ".join(told)

    def document(self, words: str) -> str:
        return words if self.sqlite else f"to_tsvector('simple', {words})"


def _tables(dialect: Dialect) -> list[Table]:
    """Each one after those it refers to."""
    return [
        Table("collections", {"id": "n + 1", "name": "'site-' || (n + 1)"}, once=SITES),
        Table(
            "sources",
            {"id": "n + 1", "collection_id": f"n % {SITES} + 1", "name": "'camera-' || (n + 1)"},
            once=CAMERAS,
        ),
        _generations(dialect),
        _videos(dialect),
        _analyses(dialect),
        _answers(dialect),
        _moments(dialect),
        _search_index(dialect),
    ]


def _recorded(recording: str) -> str:
    """When a recording began, in seconds since 1970."""
    return (
        f"({int(FIRST.timestamp())} + {recording} / {CAMERAS} * {EVERY} "
        f"+ {recording} % {CAMERAS} * 7919 % {EVERY})"
    )


_RECORDED = _recorded("n")
_ASKED = _recorded(f"(n / {QUESTIONS})")
_WHAT = f"{word(COLOURS, 3)} || ' ' || {word(THINGS, 4)} || ' ' || {word(DOINGS, 5)}"


def _generations(dialect: Dialect) -> Table:
    columns = {
        "id": "n + 1",
        "key": dialect.key,
        "fingerprint": f"'{'f' * 64}'",
        "settings": "'{}'",
        "begun_at": dialect.instant("0"),
    }
    return Table("generations", columns, once=1)


def _videos(dialect: Dialect) -> Table:
    columns = {
        "id": "n + 1",
        "sha256": dialect.key,
        "uri": f"'file:///videos/camera-' || (n % {CAMERAS} + 1) || '/' || n || '.mp4'",
        "source_id": f"n % {CAMERAS} + 1",
        "recorded_at": dialect.instant(_RECORDED),
        "recorded_at_origin": "'filename'",
        "state": "'readable'",
        "crashes": "0",
        "size_bytes": "100000000",
        "duration": f"{LENGTH}.0",
        "frame_rate": "25.0",
        "frame_count": str(25 * LENGTH),
        "width": "1280",
        "height": "720",
        "codec": "'h264'",
        "rotation": "0",
        "start_time": "0.0",
        "added_at": dialect.instant(f"{_RECORDED} + 1000"),
    }
    return Table("videos", columns, per_recording=1)


_PLAN = '{"steps": [{"role": "grounder"}, {"role": "answerer"}], "text": "", "fallback": false}'


def _analyses(dialect: Dialect) -> Table:
    columns = {
        "id": "n + 1",
        "video_id": f"n / {QUESTIONS} + 1",
        "idempotency_key": dialect.key,
        "question": f"'Show when the ' || {_WHAT} || ' at the ' || {word(PLACES, 6)} || '.'",
        "options": "'[]'",
        "mode": "'auto'",
        "settings": """'{"window": 300.0, "min_answer_seconds": null}'""",
        "fingerprint": f"'{'f' * 64}'",
        "progress": "1.0",
        "stage": "'done'",
        "plan": f"'{_PLAN}'",
        "plan_fallback": "false",
        "query": _WHAT,
        "warnings": "'[]'",
        "seconds": """'{"decode": 1.5, "total": 20.25}'""",
        "state": "'succeeded'",
        "priority": "5",
        "attempts": "1",
        "losses": "0",
        "fence": "1",
        "cancel_requested": "false",
        "submitted_at": dialect.instant(f"{_ASKED} + 1000"),
        "started_at": dialect.instant(f"{_ASKED} + 2000"),
        "finished_at": dialect.instant(f"{_ASKED} + 2020"),
    }
    optional = {
        "asked_key": dialect.key,
        "generation_id": "1",
        "current": "n % 20 <> 0",
        "compute_seconds": "20.25",
    }
    return Table("analyses", columns, per_recording=QUESTIONS, optional=optional)


def _answers(dialect: Dialect) -> Table:
    columns = {
        "analysis_id": "n + 1",
        "text": f"'The ' || {word(THINGS, 4)} || ' ' || {word(DOINGS, 7)} || ' beside a ' "
        f"|| {word(COLOURS, 8)} || ' ' || {word(THINGS, 9)}",
        "start_seconds": "0.0",
        "end_seconds": "60.0",
        "starts_at": dialect.instant(_ASKED),
        "ends_at": dialect.instant(f"{_ASKED} + 60"),
    }
    return Table("answers", columns, per_recording=QUESTIONS)


def _moments(dialect: Dialect) -> Table:
    # Where nothing is found, the whole recording stands for its best moment.
    whole, row = "n % 100 = 0 AND rank = 1", "n + 7 * rank"
    start = f"(CASE WHEN {whole} THEN 0 ELSE {draw(LENGTH - 60, 1, row)} END)"
    end = f"{start} + (CASE WHEN {whole} THEN {LENGTH} ELSE 2 + {draw(28, 2, row)} END)"
    columns = {
        "analysis_id": "n + 1",
        "rank": "rank",
        "query": _WHAT,
        "start_seconds": start,
        "end_seconds": end,
        "starts_at": dialect.instant(f"{_ASKED} + {start}"),
        "ends_at": dialect.instant(f"{_ASKED} + {end}"),
        "confidence": f"{draw(1000, 10, row)} / 1000.0",
        "p_yes": "0.5",
        "p_no": "0.3",
        "verifier_score": f"0.27 + {draw(46000, 11, row)} / 100000.0",
        "fallback": whole,
    }
    ranks = " UNION ALL ".join(f"SELECT {rank} AS rank" for rank in range(1, MOST_MOMENTS + 1))
    joined = f"JOIN ({ranks}) AS ranks ON rank <= 1 + n % {MOST_MOMENTS}"
    optional = {"source_id": f"(n / {QUESTIONS}) % {CAMERAS} + 1"}
    return Table("moments", columns, per_recording=QUESTIONS, joined=joined, optional=optional)


def _search_index(dialect: Dialect) -> Table:
    words = "analyses.question || ' ' || analyses.query || ' ' || answers.text || ' ' || "
    words += dialect.days(_ASKED, f"{_ASKED} + {LENGTH}")
    columns = {"analysis_id": "analyses.id", "document": dialect.document(words)}
    if dialect.sqlite:
        columns["rowid"] = "analyses.id"
    joined = "JOIN analyses ON analyses.id = n + 1 JOIN answers ON answers.analysis_id = analyses.id"
    optional = {"recorded_at": dialect.instant(_ASKED)}
    return Table("search_index", columns, per_recording=QUESTIONS, joined=joined, optional=optional)
