"""A store on each of the databases, and short ways to claim, to read rows and to let time pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile

import pytest
from sqlalchemy import text

from tests.servers import DATABASES, PostgreSQL
from tests.worker.made import Source
from vm.moments import Span
from vm.result import Result, Window
from worker.jobs import Claim
from worker.store import Store

MINUTES = timedelta(minutes=5)
ATTEMPTS = 3


def read(value: str | datetime) -> datetime:
    """An instant as a plain statement gives it: SQLite knows none, only texts."""
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


# One test's database takes the place of the last one's, so that one engine serves them all: SQLAlchemy
# compiles every statement once for each engine, which would take longer than all these tests.


@pytest.fixture
def sqlite_url(migrated: Path) -> Iterator[str]:
    file = copyfile(migrated, migrated.parent / "store.db")
    yield f"sqlite:///{file}"
    for left in file.parent.glob("store.db*"):
        left.unlink()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL, migrated_postgresql: str) -> Iterator[str]:
    name = postgresql.create(migrated_postgresql, "store")
    yield postgresql.url(name)
    postgresql.drop(name)


@pytest.fixture(scope="session")
def opened() -> Callable[[str], AbstractContextManager[Store]]:
    """The store at a URL, without any connection before and after."""
    stores: dict[str, Store] = {}

    @contextmanager
    def use(url: str) -> Iterator[Store]:
        store = stores.setdefault(url, Store(url))
        try:
            yield store
        finally:
            store.engine.dispose()

    return use


@pytest.fixture
def store(url: str, opened: Callable[[str], AbstractContextManager[Store]]) -> Iterator[Store]:
    with opened(url) as store:
        yield store


@pytest.fixture(scope="session")
def source() -> Source:
    """A video that is not there: a store never looks."""
    return Source("file:///videos/door.mp4", "a" * 64)


@pytest.fixture
def sql(store: Store) -> Callable[..., list[tuple]]:
    """Runs a statement in a transaction of its own: `sql("SELECT … WHERE id = :id", id=1)`."""

    def run(statement: str, **values: object) -> list[tuple]:
        with store.engine.begin() as connection:
            done = connection.execute(text(statement), values)
            return [tuple(row) for row in done] if done.returns_rows else []

    return run


@pytest.fixture
def counted(sql: Callable[..., list[tuple]]) -> Callable[..., list[int]]:
    """How many rows the tables have: `counted("moments", "answers")`."""
    return lambda *tables: [sql(f"SELECT count(*) FROM {table}")[0][0] for table in tables]


@pytest.fixture
def claim(store: Store) -> Callable[..., list[Claim]]:
    """Claims the analyses that are next. With `length=-MINUTES` the lease has run out at once."""

    def take(holder: str = "worker", fingerprint: str = "f" * 64, length: timedelta = MINUTES) -> list[Claim]:
        return store.analyses.claim(holder, fingerprint, length, ATTEMPTS)

    return take


@pytest.fixture
def lapsed(claim: Callable[..., list[Claim]]) -> Callable[[], Claim]:
    """A claim whose holder has been stopped for longer than its lease."""
    return lambda: claim("stopped", length=-MINUTES)[0]


@pytest.fixture
def result(found: Callable[..., Result]) -> Result:
    """What was found in two windows, in the first by the grounder's first candidate."""
    windows = Window(Span(0.0, 0.9), 5, 0.75), Window(Span(0.9, 2.0), 6, 0.5)
    return replace(found("Who comes in?"), windows=windows)
