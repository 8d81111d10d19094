"""Whether a database's tables are the ones this program works with, and how they come to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import migrations
from worker.database import is_new, open_engine, shown, sqlite_file, translated_errors
from worker.errors import DatabaseUnusable, StaleSchema


def upgrade(url: str) -> None:
    """Brings the tables to this program's version; harmless where they are, even when done twice at once.

    Raises:
        DatabaseUnusable: the database cannot be opened.
        StaleSchema: the tables were made by a newer program.
    """
    with alembic_config(url) as config:
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StaleSchema(f"{error}: the tables belong to a newer program, update this one") from error


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
