"""Somebody else who reads all the time: `python -m tests.integration.onlooker URL`.

Once standard input ends, it prints how often it has looked, and all that it has seen half of.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from tests.integration.made import ROWS

_PAUSE = 0.05

_counts = {table: f"(SELECT count(*) FROM {table} WHERE {table}.analysis_id = analyses.id)" for table in ROWS}
_whole = " AND ".join(
    [
        "finished_at IS NOT NULL",
        "lease_holder IS NULL",
        "progress = 1",
        "plan IS NOT NULL",
        *(f"{_counts[table]} = {rows}" for table, rows in ROWS.items()),
    ]
)
_nothing = " AND ".join(f"{_counts[table]} = 0" for table in ROWS if table != "coverage")
HALF = f"""
    SELECT 'analysis', id FROM analyses WHERE state = 'succeeded' AND NOT ({_whole})
    UNION ALL
    SELECT 'analysis', id FROM analyses WHERE state <> 'succeeded' AND NOT ({_nothing})
    UNION ALL
    SELECT 'analysis', id FROM analyses
    WHERE (state = 'running') <> (lease_holder IS NOT NULL AND lease_expires_at IS NOT NULL)
    UNION ALL
    SELECT 'analysis', id FROM analyses WHERE current AND state <> 'succeeded'
    UNION ALL
    SELECT 'question', id FROM analyses AS asked WHERE state = 'succeeded' AND NOT EXISTS (
        SELECT 1 FROM analyses AS shown
        WHERE shown.current AND shown.video_id = asked.video_id AND shown.asked_key = asked.asked_key
    )
    UNION ALL
    SELECT 'video', video_id FROM analyses WHERE current
    GROUP BY video_id HAVING count(DISTINCT fingerprint) > 1
    UNION ALL
    SELECT 'submission', submissions.id FROM submissions JOIN requests ON submission_id = submissions.id
    WHERE (state = 'succeeded') <> (analysis_id IS NOT NULL AND video_id IS NOT NULL)
"""
"""What is neither waiting, nor at work, nor whole; questions whose answer nobody is shown, and videos that
answers of two checkpoints are shown of. One statement, and so one moment, on either database."""


def main(url: str) -> None:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    engine = create_engine(url, pool_pre_ping=True)
    looks, half = 0, set()
    while not over.is_set():
        try:
            with engine.connect() as connection:
                half |= {tuple(row) for row in connection.execute(text(HALF))}
            looks += 1
        except DBAPIError:  # the database is being restarted
            pass
        time.sleep(_PAUSE)
    print(json.dumps({"looks": looks, "half": sorted(half)}))


if __name__ == "__main__":
    main(sys.argv[1])
