"""Times what analysts ask the database, with millions of moments in it, and shows how it is answered.

    python -m tests.benchmarks.bench_store [--rows N] [--database sqlite|postgresql] [--repeats N]

The moments are made by SQL, in tables as the migrations make them: two years for ten million, less for fewer,
so that as much happens on a day. Every repeat asks for another camera, time or word. The database is in
$TMPDIR, 12 GB for ten million.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from calendar import monthrange
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine, create_engine, text

from tests import servers
from tests.benchmarks import made_rows, made_words
from tests.benchmarks.durable import Roomy, disk_folder, postgresql_on_disk
from worker import schema
from worker.database import open_engine
from worker.daywords import within

TARGETS = {"postgresql": 50, "sqlite": 200}  # ms, at the median
MONTH = timedelta(days=30)
Parameters = Mapping[str, object]


@dataclass(frozen=True)
class Query:
    """A question an analyst asks. `span`: the time it is about; `sqlite`: its text where that differs."""

    name: str
    span: timedelta
    postgresql: str
    sqlite: str = ""

    def text(self, dialect: str) -> str:
        return (dialect == "sqlite" and self.sqlite) or self.postgresql

    def parameters(self, rng: random.Random, until: datetime, dialect: str) -> Parameters:
        """What the text names, drawn anew. A month is one of the calendar."""
        most = (until - made_rows.FIRST - self.span).total_seconds()
        since = made_rows.FIRST + timedelta(seconds=int(rng.uniform(0, max(0.0, most))))
        span = self.span
        if span == MONTH:
            since = since.replace(day=1, hour=0, minute=0, second=0)
            span = timedelta(days=monthrange(since.year, since.month)[1])
        camera = rng.randrange(made_rows.CAMERAS)
        days = within(since, since + span)
        given = {
            "collection": f"site-{camera % made_rows.SITES + 1}",
            "source": f"camera-{camera + 1}",
            "words": f"{rng.choice(made_words.COLOURS)} {rng.choice(made_words.THINGS)}",
            "word": rng.choice(made_words.THINGS),
            "since": since.strftime("%Y-%m-%d %H:%M:%S"),
            "until": (since + span).strftime("%Y-%m-%d %H:%M:%S"),
        }
        for name in ("word", "words"):
            given[f"{name}_days"] = " | ".join(days)
            given[f"{name}_match"] = f"{given[name]} AND ({' OR '.join(days)})"
        return {name: given[name] for name in re.findall(r"(?<!:):(\w+)", self.text(dialect))}


_CAMERA = "collection = :collection AND source = :source"
_TIME = "starts_at >= :since AND starts_at < :until"
# No moment is longer than an hour, nor is a recording: so far back an index has to be looked through.
_RECORDED = """video_id IN (
        SELECT videos.id FROM videos JOIN sources ON sources.id = videos.source_id
        WHERE sources.name = :source AND recorded_at > {before} AND recorded_at < :until
    )"""
_BEST_OF_A_CAMERA = f"""
    SELECT * FROM (
        SELECT {{day}} AS day, moment_view.*,
            row_number() OVER (PARTITION BY {{day}} ORDER BY verifier_score DESC) AS place
        FROM moment_view
        WHERE {_CAMERA} AND {_TIME} AND {_RECORDED}
    ) AS placed
    WHERE place <= 3
    ORDER BY day, place"""
_BEST_OF_ALL = """
    SELECT days.day, best.*
    FROM generate_series(CAST(:since AS date), CAST(:until AS date), interval '1 day') AS days (day)
    CROSS JOIN LATERAL (
        SELECT * FROM moment_view
        WHERE (starts_at AT TIME ZONE 'UTC')::date = days.day::date
        ORDER BY verifier_score DESC NULLS LAST
        LIMIT 3
    ) AS best
    ORDER BY days.day, verifier_score DESC"""
_BEST_OF_ALL_SQLITE = """
    WITH RECURSIVE days (day) AS (
        SELECT date(:since) UNION ALL SELECT date(day, '+1 day') FROM days WHERE day < date(:until)
    )
    SELECT days.day, moment_view.*
    FROM days
    JOIN moment_view ON moment_id IN (
        SELECT moment_id FROM moment_view
        WHERE date(starts_at) = days.day
        ORDER BY verifier_score DESC
        LIMIT 3
    )
    ORDER BY days.day, verifier_score DESC"""


def _both(asked: str) -> tuple[str, str]:
    """In the words of PostgreSQL and of SQLite."""
    return (
        asked.format(before="CAST(:since AS timestamptz) - INTERVAL '1 hour'", day="CAST(starts_at AS date)"),
        asked.format(before="datetime(:since, '-1 hour')", day="date(starts_at)"),
    )


def _search(word: str) -> tuple[str, str]:
    """The best moment of each analysis, the latest first, a page of them. The days are words like others."""
    asked = f"""
    SELECT * FROM moment_view
    WHERE moment_id IN (
        SELECT moment_id FROM moment_view
        WHERE rank = 1 AND {_TIME} AND analysis_id IN (
            SELECT analysis_id FROM search_index WHERE {{match}}
        )
        ORDER BY starts_at DESC
        LIMIT 100
    )
    ORDER BY starts_at DESC"""
    postgresql = (
        f"document @@ (websearch_to_tsquery('simple', :{word}) && to_tsquery('simple', :{word}_days))"
    )
    return asked.format(match=postgresql), asked.format(match=f"search_index MATCH :{word}_match")


QUERIES = (
    Query(
        "a camera between two instants (a day)",
        timedelta(days=1),
        *_both(f"SELECT * FROM moment_view WHERE {_CAMERA} AND {_TIME} AND {_RECORDED} ORDER BY starts_at"),
    ),
    Query(
        "overlap with an interval (ten minutes)",
        timedelta(minutes=10),
        *_both(
            "SELECT * FROM moment_view "
            "WHERE starts_at > {before} AND starts_at < :until AND ends_at > :since ORDER BY starts_at"
        ),
    ),
    Query("two words within a month, the latest 100", MONTH, *_search("words")),
    Query("one word within a day, the latest 100", timedelta(days=1), *_search("word")),
    Query("best three a day of a camera (a month)", MONTH, *_both(_BEST_OF_A_CAMERA)),
    Query("best three a day of all cameras (a week)", timedelta(days=7), _BEST_OF_ALL, _BEST_OF_ALL_SQLITE),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="moments")
    parser.add_argument("--database", choices=servers.DATABASES, default="postgresql")
    parser.add_argument("--repeats", type=int, default=25, help="rounds of which the median is taken")
    options = parser.parse_args()
    console = Console()
    with made_database(options.database, options.rows) as url:
        measure(url, made_rows.end(options.rows), options.repeats, console)


@contextmanager
def made_database(kind: str, rows: int) -> Iterator[str]:
    """The URL of a database with so many moments, as it is after a night's rest."""
    with _empty(kind) as url:
        schema.upgrade(url)
        engine = open_engine(url)
        begun = time.perf_counter()
        made_rows.fill(engine, rows, lambda name, part: _report(name, part, begun))
        _settle(engine)
        engine.dispose()
        _report("settled", 1.0, begun)
        yield url


@contextmanager
def _empty(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with disk_folder() as folder:
            yield f"sqlite:///{folder / 'bench.db'}"
    else:
        with postgresql_on_disk(Roomy) as server:
            yield server.url(server.create())


def _settle(engine: Engine) -> None:
    """What autovacuum does in time, and SQLite when it is asked."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            return
    with engine.begin() as connection:
        connection.execute(text("PRAGMA analysis_limit = 1000"))
        connection.execute(text("ANALYZE"))


def _report(name: str, part: float, begun: float) -> None:
    print(f"\r{time.perf_counter() - begun:6.0f} s  {name} {part:4.0%}   ", end="", flush=True)
    if part == 1:
        print()


def measure(url: str, until: datetime, repeats: int, console: Console) -> None:
    """Asks everything in turn, each repeat something else, and prints times and plans.

    All is asked twice, and timed the second time: what it needs is in memory then, as in a service in use.
    """
    engine = _as_an_analyst(url)
    dialect = engine.dialect.name
    with engine.connect() as connection:
        for _ in range(2):
            rng = random.Random(1)
            times: dict[str, list[float]] = {query.name: [] for query in QUERIES}
            rows: dict[str, list[int]] = {query.name: [] for query in QUERIES}
            for _ in range(repeats):
                for query in QUERIES:
                    seconds, count = _timed(connection, query, query.parameters(rng, until, dialect))
                    times[query.name].append(1000 * seconds)
                    rows[query.name].append(count)
        for query in QUERIES:
            console.print(f"\n[bold]{query.name}[/bold]", query.text(dialect), highlight=False)
            console.print(
                _plan(connection, query, query.parameters(rng, until, dialect)), highlight=False, markup=False
            )
    table = Table(
        "", "rows", "median, ms", "p95, ms", title=f"{dialect}, to stay below {TARGETS[dialect]} ms"
    )
    for name, taken in times.items():
        shown = f"{statistics.median(taken):.1f}", f"{statistics.quantiles(taken, n=20)[-1]:.1f}"
        table.add_row(name, f"{statistics.median(rows[name]):.0f}", *shown)
    console.print(table)


def _as_an_analyst(url: str) -> Engine:
    """A client that plans each statement for the values in it, and takes nobody's turn to write."""
    return create_engine(url, connect_args={} if url.startswith("sqlite") else {"prepare_threshold": None})


def _timed(connection: Connection, query: Query, parameters: Parameters) -> tuple[float, int]:
    start = time.perf_counter()
    found = connection.execute(text(query.text(connection.dialect.name)), parameters).all()
    return time.perf_counter() - start, len(found)


def _plan(connection: Connection, query: Query, parameters: Parameters) -> str:
    """As the database tells it."""
    if connection.dialect.name == "postgresql":
        told = connection.execute(text(f"EXPLAIN (ANALYZE, COSTS OFF) {query.postgresql}"), parameters)
        return "\n".join(row[0] for row in told)
    told = connection.execute(text(f"EXPLAIN QUERY PLAN {query.text('sqlite')}"), parameters)
    depth = {0: -1}
    lines = []
    for step, parent, _, what in told:
        depth[step] = depth[parent] + 1
        lines.append("    " * depth[step] + what)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
