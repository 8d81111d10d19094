"""Several processes on one SQLite file: nobody is turned away, nothing is done twice."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

PROCESSES = 4
QUESTIONS = 25

SUBMIT = f"""
import json, sys
from worker import schema
from worker.jobs import Request
from worker.media import Source
from worker.store import Store

schema.prepare(sys.argv[1])
source = Source("file:///door.mp4", "0" * 64)
with Store(sys.argv[1]) as store:
    ids = [store.submit(source, Request(f"question {{n}}"), "f" * 64) for n in range({QUESTIONS})]
print(json.dumps(ids))
"""

CLAIM = f"""
import json, sys
from worker.store import Store

with Store(sys.argv[1]) as store:
    claims = [claim for n in range(1, {QUESTIONS} + 1) for claim in store.claim([n])]
    assert all(store.fail(claim, ValueError("done")) for claim in claims)
print(json.dumps([claim.analysis_id for claim in claims]))
"""


def _in_processes(script: str, url: str) -> list[list[int]]:
    """What each of several processes prints that run the script at the same time."""
    started = [
        subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * PROCESSES
    return [json.loads(text) for text in printed]


def test_processes_that_begin_together_share_one_database_and_do_everything_once(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/new.db"
    submitted = _in_processes(SUBMIT, url)
    assert submitted == [submitted[0]] * PROCESSES
    assert sorted(submitted[0]) == list(range(1, QUESTIONS + 1))
    taken = Counter(analysis_id for ids in _in_processes(CLAIM, url) for analysis_id in ids)
    assert taken == Counter(submitted[0])
