"""Whether a database's tables are the ones this program works with, and how they come to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

import migrations
from worker.database import is_new, open_engine, shown, sqlite_file, translated_errors
from worker.errors import DatabaseUnusable, StaleSchema


def _silent(step: str, fraction: float) -> None:
    """Nobody watches."""


def upgrade(url: str, report: Callable[[str, float], None] = _silent) -> None:
    """Brings the tables to this program's version; harmless where they are, even when done twice at once.

    Args:
        report: told of each step before it is done, and the fraction of the steps done, 0 to 1.

    Raises:
        DatabaseUnusable: the database cannot be opened.
        StaleSchema: the tables were made by a newer program.
    """
    with alembic_config(url) as config:
        try:
            config.attributes["applied"] = _reporting(_steps(config), report)
            command.upgrade(config, "head")
        except (CommandError, RevisionError) as error:
            raise StaleSchema(f"{error}: the tables belong to a newer program, update this one") from error


def _steps(config: Config) -> list[str]:
    """The versions that are still to come, in their order."""
    connection = config.attributes["connection"]
    with connection.begin():
        found = MigrationContext.configure(connection).get_current_revision()
    to_come = ScriptDirectory.from_config(config).iterate_revisions("head", found or "base")
    return [f"version {step.revision}" for step in to_come][::-1]


def _reporting(steps: Sequence[str], report: Callable[[str, float], None]) -> Callable[..., None]:
    """Is to be called after each step, and reports the one that comes."""
    coming = enumerate([*steps, ""][1:], start=1)
    if steps:
        report(steps[0], 0.0)

    def applied(**_: object) -> None:
        for done, step in islice(coming, 1):  # none is left where others have changed the tables meanwhile
            report(step, done / len(steps))

    return applied


def check(url: str) -> str:
    """The version of the tables, if it is this program's.

    Raises:
        DatabaseUnusable: the database cannot be opened.
        StaleSchema: there are no tables, or those of another version.
    """
    if _is_missing(url):
        raise StaleSchema(f"{sqlite_file(url)} is not there: run `videomind db upgrade`, which makes it")
    with alembic_config(url) as config:
        connection = config.attributes["connection"]
        found = MigrationContext.configure(connection).get_current_revision()
        needed = ScriptDirectory.from_config(config).get_current_head()
        if found is None or found != needed:
            raise StaleSchema(
                f"{shown(connection.engine.url)} has tables of version {found or 'none'}, this program needs "
                f"{needed}: run `videomind db upgrade`, with the same --database if you gave one"
            )
        return found


def _is_missing(url: str) -> bool:
    """An SQLite file that opening would only make."""
    try:
        return not sqlite_file(url).exists()
    except DatabaseUnusable:
        return False  # another kind, or none, which opening tells


def prepare(url: str) -> None:
    """Sets up an SQLite database that nobody has used yet; any other must be up to date.

    Raises:
        DatabaseUnusable: the database cannot be opened.
        StaleSchema: the tables are of another version.
    """
    engine = open_engine(url)
    with translated_errors(engine):
        new = is_new(engine)
    engine.dispose()
    if new:
        upgrade(url)
    check(url)


@contextmanager
def alembic_config(url: str) -> Iterator[Config]:
    """Alembic's settings for one connection, made here so that an installed package needs no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    engine = open_engine(url)
    try:
        with translated_errors(engine), engine.connect() as connection:
            config.attributes["connection"] = connection
            yield config
    finally:
        engine.dispose()
