from dataclasses import replace

from worker.jobs import Request, Submission
from worker.store import Store
from worker.store.sources import Source


def test_a_source_says_how_its_files_names_tell_when_they_were_recorded(store: Store):
    submission = Submission("one", "file:///a.mp4", (Request("Who?"),), "depot", "gate")
    assert store.sources.naming(submission) == (None, None)
    store.sources.describe("depot", "gate", "%Y", "Europe/Vienna")
    store.sources.describe("depot", "gate", "%Y%m", "Europe/Vienna")
    store.sources.describe("campus", "gate", None, None)
    assert store.sources.naming(submission) == ("%Y%m", "Europe/Vienna")
    assert store.sources.naming(replace(submission, source=None)) == (None, None)


def test_all_sources_are_told_with_how_many_videos_have_come(store: Store, registered):
    registered("a", sha256="1", collection="depot", source="gate")
    registered("a", "b", sha256="2", collection="depot", source="gate")
    registered("a", sha256="3", collection="depot")
    store.sources.describe("campus", "hall", "%Y%m%d", None)
    assert store.sources.all() == [
        Source("campus", "hall", "%Y%m%d", None, 0),
        Source("depot", "", None, None, 1),
        Source("depot", "gate", None, None, 2),
    ]
