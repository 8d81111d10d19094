"""Real servers, started once in a test run where a test needs them, and databases of each test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import pytest

from tests import servers


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    """The test run's PostgreSQL server."""
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    """The test run's Redis server."""
    with servers.redis_server() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: servers.Redis) -> str:
    """An empty Redis."""
    redis_server.client().flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def migrated() -> Iterator[Path]:
    """An SQLite file with empty tables, to be copied."""
    from worker import schema

    with servers.quick_folder() as folder:
        file = folder / "migrated.db"
        schema.upgrade(f"sqlite:///{file}")
        yield file


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql: servers.PostgreSQL) -> str:
    """The name of a PostgreSQL database with empty tables, to be copied."""
    from worker import schema

    name = postgresql.create()
    schema.upgrade(postgresql.url(name))
    return name


@pytest.fixture
def sqlite_url(migrated: Path) -> Iterator[str]:
    """An SQLite database of the test's own, with empty tables."""
    with TemporaryDirectory(dir=migrated.parent) as folder:
        yield f"sqlite:///{copyfile(migrated, Path(folder) / 'test.db')}"


@pytest.fixture
def postgresql_url(postgresql: servers.PostgreSQL, migrated_postgresql: str) -> Iterator[str]:
    """A PostgreSQL database of the test's own, with empty tables."""
    name = postgresql.create(template=migrated_postgresql)
    yield postgresql.url(name)
    postgresql.drop(name)


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty_postgresql_url(postgresql: servers.PostgreSQL) -> Iterator[str]:
    name = postgresql.create()
    yield postgresql.url(name)
    postgresql.drop(name)


@pytest.fixture
def database() -> str:
    """The kind of database behind `url`. Tests that hold on both are parametrised with `DATABASES`."""
    return "sqlite"


@pytest.fixture
def url(database: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, with empty tables."""
    return request.getfixturevalue(f"{database}_url")


@pytest.fixture
def empty(database: str, request: pytest.FixtureRequest) -> str:
    """A database of the test's own, without any table."""
    return request.getfixturevalue(f"empty_{database}_url")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests have recorded as `figures`, which else nobody would see of those that pass."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "figures":
                    terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {value}")
