"""Times what queue and store add to the chain, and how many submissions a working service accepts.

    python -m tests.benchmarks.bench_queue [--repeats N] [--analyses N] [--seconds N]

The overhead is taken with the real services, a real broker to wake, and a model that gives what the miniature
found on a 30-second clip, after a pause that is not counted. One question on each video, so that nothing is
shared. One database after the other, each beside the chain: what one has left to the disk would be written
while another is timed. PostgreSQL is there twice: without waiting for the disk, and "synced", with every
commit on it, as SQLite always has them. Submissions come from a Celery client, for real workers with the
miniature, until the row is there.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import torch
from rich.console import Console
from rich.table import Table

from tests import servers
from tests.benchmarks.acceptance import PARITY, acceptance, submission
from tests.benchmarks.durable import Durable, disk_folder, postgresql_on_disk
from tests.statements import heard
from vm import VideoMind
from vm.result import Result
from vm.scenes.clip import Clip
from vm.scenes.vocabulary import SEEDS
from worker import ingest, schema, service
from worker.analysis import Analyst
from worker.celery_app import app
from worker.ingest import Registrar
from worker.settings import Settings
from worker.store import Store
from worker.store.queues import Depth

TARGETS = {"ms": 15, "share": 0.05}
PAUSE = 0.03
"""Seconds in which the model is busy and the next video is looked for, as it would be: not counted."""
_BUSY = {"answer": PAUSE}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds of which the median is taken")
    parser.add_argument("--analyses", type=int, default=100, help="in a round")
    parser.add_argument("--seconds", type=float, default=60.0, help="that submissions are sent for")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console()
    with ExitStack() as stack:
        broker = stack.enter_context(servers.redis_server())
        folder = stack.enter_context(disk_folder())
        console.print(overhead(broker.url, options.repeats, options.analyses))
        durable = stack.enter_context(postgresql_on_disk(Durable))
        console.print(acceptance(durable.url(durable.create()), broker.url, folder, options.seconds))


@contextmanager
def without_disk() -> Iterator[str]:
    with servers.postgresql() as server:
        yield server.url(server.create())


@contextmanager
def synced() -> Iterator[str]:
    with postgresql_on_disk(Durable) as server:
        yield server.url(server.create())


@contextmanager
def sqlite() -> Iterator[str]:
    with disk_folder() as folder:
        yield f"sqlite:///{folder / 'bench.db'}"


DATABASES = {"PostgreSQL": without_disk, "synced": synced, "SQLite": sqlite}


@dataclass(frozen=True)
class Recorded:
    """What a model found on a clip, the progress it told of, and the seconds it took."""

    result: Result
    told: Sequence[tuple[str, float]]
    seconds: float


class Replay:
    """A model that gives what was recorded, and takes `PAUSE` for it."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.fingerprint = recorded.result.fingerprint

    @contextmanager
    def open(self, reader: object, **_: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(ask=self._ask)

    def prefetch(self, reader: object, content_hash: str) -> None:
        """There is nothing to decode."""

    def _ask(self, question: str, progress: Callable[[str, float], None], **_: object) -> Result:
        time.sleep(PAUSE)
        for stage, part in self._recorded.told:
            progress(stage, part)
        return replace(self._recorded.result, question=question)


class Rounds:
    """Rounds of analyses on one database, by the services that do it elsewhere.

    Attributes:
        times: for each round, milliseconds an analysis by step.
        statements: SQL statements an analysis by step.
    """

    def __init__(self, store: Store, settings: Settings, recorded: Recorded, folder: Path) -> None:
        self._store, self._folder = store, folder
        mind: Any = Replay(recorded)
        registrar = Registrar(store, settings, mind.fingerprint)
        analyst = Analyst(mind, store, settings, lambda *_: None)
        self._steps: dict[str, Callable[[Path], object]] = {
            "submit": lambda video: service.submit(store, uuid4().hex, submission(video, "Who?")),
            "take in": lambda _: service.take_in(registrar),
            "answer": lambda _: analyst.work(),
        }
        self.times: list[dict[str, float]] = []
        self.statements: dict[str, float] = {}

    def go(self, count: int) -> None:
        """One more round of so many analyses, each on a video that nobody has seen."""
        videos = [_written(self._folder / f"{len(self.times)}-{number}.mp4") for number in range(count)]
        taken = {}
        for step, work in self._steps.items():
            with heard() as statements:
                taken[step] = 1000 * (seconds(work, videos) / count - _BUSY.get(step, 0.0))
            self.statements[step] = len(statements) / count
        self.times.append(taken)
        if self._store.queues.depths()["analyse"] != Depth(0, 0, 0.0):
            raise RuntimeError("not all of it was done")

    def median(self, step: str | None = None) -> float:
        """Of a step, or of all together. The first round is left out: it fills caches."""
        return statistics.median(taken[step] if step else sum(taken.values()) for taken in self.times[1:])

    def figures(self, chain: float) -> Sequence[str]:
        """A row, beside a chain that takes so many seconds."""
        together = self.median()
        times = [f"{taken:.1f}" for taken in (*map(self.median, self._steps), together)]
        statements = f"{sum(self.statements.values()):.0f}"
        return *times, f"{chain:.2f} s", f"{together / 1000 / chain:.1%}", statements


def _written(path: Path) -> Path:
    path.write_text(str(path))
    return path


def seconds(work: Callable[[Path], object], videos: Sequence[Path]) -> float:
    start = time.perf_counter()
    for video in videos:
        work(video)
    return time.perf_counter() - start


def overhead(broker: str, repeats: int, count: int) -> Table:
    """Milliseconds an analysis, by database and step, beside what the chain itself takes."""
    app.conf.broker_url = broker
    mind = VideoMind.load(PARITY / "checkpoint")
    clip = Clip(SEEDS["test"][0], False, 30.0)
    question = next(asked.question for asked in clip.questions if asked.mode == "ground-answer")
    with ExitStack() as stack:
        folder = stack.enter_context(disk_folder())
        video = clip.write(folder)
        first = _record(mind, video, question)
        stack.enter_context(undecoded(first))
        columns = ("submit", "take in", "answer", "all", "chain", "of it", "SQL")
        table = Table("ms an analysis", *columns, title="queue and store")
        for name, database in DATABASES.items():
            with database() as url, _rounds(url, first, folder / name) as rounds:
                chain = []
                for number in range(repeats + 1):
                    chain.append(_record(mind, video, question).seconds)
                    rounds.go(count)
                    print(f"timed: {name}, round {number} of {repeats}", flush=True)
            table.add_row(name, *rounds.figures(statistics.median(chain[1:])))
    table.caption = f"to stay below {TARGETS['ms']} ms and {TARGETS['share']:.0%}"
    return table


def _record(mind: VideoMind, video: Path, question: str) -> Recorded:
    told: list[tuple[str, float]] = []
    start = time.perf_counter()
    result = mind.ask(video, question, progress=lambda stage, part: told.append((stage, part)))
    return Recorded(result, told, time.perf_counter() - start)


@contextmanager
def undecoded(recorded: Recorded) -> Iterator[None]:
    """Any file is a video, of which is known what there is to know: the decoder is the chain's business."""

    @contextmanager
    def opened(path: Path, settings: Settings) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(info=recorded.result.video, recorded_at=None)

    kept, ingest.opened = ingest.opened, opened  # type: ignore[assignment]
    try:
        yield
    finally:
        ingest.opened = kept


@contextmanager
def _rounds(url: str, recorded: Recorded, folder: Path) -> Iterator[Rounds]:
    folder.mkdir()
    schema.upgrade(url)
    settings = Settings(database_url=url, scratch=folder / "scratch")
    with Store(url) as store:
        yield Rounds(store, settings, recorded, folder)


if __name__ == "__main__":
    main()
