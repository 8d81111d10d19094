import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import select

from worker import engine, reindex_show, runner
from worker.errors import InvalidRule
from worker.jobs import Request, Submission
from worker.reindexing import Limits, Rule, Run, utc
from worker.settings import Settings, using
from worker.store import Store
from worker.tables import Analysis

MINIATURE = Path(__file__).parents[1] / "parity" / "checkpoint"
EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
RUN = Run(
    1, "running", Rule(), Limits(), "f" * 64, 900.0, {"waiting": 6, "switched": 2}, 10.0, EIGHT, EIGHT, None
)


def test_a_time_with_a_zone_is_the_same_in_utc():
    assert utc("2026-03-01T09:00+01:00") == EIGHT
    assert utc("2026-03-01T09:00+01:00").tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no time"),
        ("yesterday", "is no time"),
        ("2026-03-01T08:00", "no time zone"),
        ("9999-12-31T23:59-14:00", "is no time"),
        ("0001-01-01T00:00+14:00", "is no time"),
    ],
)
def test_what_is_no_instant_is_refused(text: str, told: str):
    with pytest.raises(InvalidRule, match=told):
        utc(text)
    with pytest.raises(InvalidRule, match=told):
        Rule(since=text)


def test_a_rule_whose_time_ends_before_it_begins_is_refused():
    begins, ends = "2026-03-01T08:00Z", "2026-03-01T08:59+01:00"
    for until in (ends, begins):
        with pytest.raises(InvalidRule, match="before it begins"):
            Rule.given(("stale",), None, None, None, None, begins, until)
    assert Rule.given(("stale",), None, None, None, None, ends, begins) == Rule(since=ends, until=begins)


def test_a_rule_that_was_kept_before_it_would_have_been_refused_can_be_read():
    kept = Rule(since="2026-03-02T08:00Z", until="2026-03-01T08:00Z")
    assert Rule.from_stored(kept.to_stored()) == kept


def test_a_run_that_goes_on_as_it_has_ends_in_as_much_time_for_each_question():
    assert RUN.remaining_seconds == pytest.approx(30.0)
    later = EIGHT + timedelta(hours=1)
    assert RUN.ends_at(later) == EIGHT + timedelta(hours=4)


@pytest.mark.parametrize(
    "change",
    [{"items": {"waiting": 8}}, {"state": "paused"}, {"state": "planned", "started_at": None}],
    ids=["nothing done", "paused", "not begun"],
)
def test_where_nothing_tells_when_a_run_ends_nothing_is_told(change: dict):
    assert dataclasses.replace(RUN, **change).ends_at(EIGHT + timedelta(hours=1)) is None


def test_a_run_that_has_ended_tells_when():
    ended = EIGHT + timedelta(hours=2)
    run = dataclasses.replace(RUN, state="finished", items={"switched": 8}, finished_at=ended)
    assert run.ends_at(EIGHT + timedelta(days=3)) == ended
    assert reindex_show.run_values(run)["ends_at"] == ended
    assert _shown(run)["ends"] == "2026-03-01 10:00 UTC"
    assert _shown(RUN)["ends"].startswith("about 20")


def test_the_table_tells_of_each_way_to_be_done():
    items = {"waiting": 1, "switched": 2, "unchanged": 3, "failed": 4}
    shown = _shown(dataclasses.replace(RUN, items=items))
    told = {"done": "9 of 10", "switched": "2", "unchanged": "3", "failed": "4"}
    assert shown.items() >= told.items()


def _shown(run: Run) -> dict[str, str]:
    """The run's line in the table, by column."""
    table = reindex_show.run_table([run])
    return {str(column.header): str(cell) for column in table.columns for cell in column.cells}


@pytest.fixture
def at_work(store: Store, settings: Settings, tmp_path: Path) -> Callable[[Path], AbstractContextManager]:
    """Has a worker with this checkpoint, and its features on disk, do what is handed in within."""

    @contextmanager
    def work(checkpoint: Path) -> Iterator[None]:
        kept = tmp_path / "kept"
        with using(settings.changed(checkpoint=str(checkpoint), device="cpu", feature_cache=kept)):
            yield
            runner.drain(threading.Event(), forever=False)

    return work


def _with_another(role: str, folder: Path) -> Path:
    """The miniature with another adapter for one role, and all else in common."""
    copy = shutil.copytree(MINIATURE, folder / "checkpoint")
    (folder / "base").symlink_to(MINIATURE.parent / "base")
    path = copy / role / "adapter_model.safetensors"
    tensors = load_file(path).items()
    save_file({name: 1.5 * each if "lora_B" in name else each for name, each in tensors}, path)
    return copy


def _stages(store: Store, fingerprint: str) -> list[set[str]]:
    """For each video what its answers of one generation have spent time in, as their rows have it."""
    stages: dict[int, set[str]] = {}
    query = select(Analysis.video_id, Analysis.seconds).where(
        Analysis.fingerprint == fingerprint, Analysis.state == "succeeded"
    )
    with store.engine.connect() as connection:
        for video, seconds in connection.execute(query):
            stages.setdefault(video, set()).update(stage for stage, spent in seconds.items() if spent > 0)
    return list(stages.values())


def test_a_run_with_another_adapter_neither_decodes_nor_encodes_what_was_seen_before(
    store: Store, at_work, tmp_path: Path
):
    questions = (Request("Why did the man appear?"), Request("When does the ball roll?"))
    with at_work(MINIATURE):
        old = engine.fingerprint()
        for name in ("tiny3s.mp4", "portrait9s.mp4"):
            video = MINIATURE.parent / "videos" / name
            store.submissions.add(Submission(name, video.as_uri(), questions))
    looking, told = {"decode", "vision"}, {"grounder", "verifier", "total"}
    assert [stages & (looking | told) for stages in _stages(store, old)] == [looking | told] * 2
    for role in ("planner", "verifier"):  # not the grounder: the verifier is shown what it finds
        with at_work(_with_another(role, tmp_path / role)):
            new = engine.fingerprint()
            run, chosen = store.reindex.plan(Rule(), Limits(), new)
            store.reindex.start(run)
        assert (old != new, chosen.videos, chosen.questions) == (True, 2, 4)
        assert store.reindex.run(run).state == "finished"
        assert store.reindex.run(run).items == {"switched": 4}
        assert [stages & (looking | told) for stages in _stages(store, new)] == [told] * 2
        old = new
