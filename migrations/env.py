"""Runs the migrations on the connection that `worker.schema` hands over."""

import sqlalchemy as sa
from alembic import context

from worker import archive_tables
from worker.errors import DatabaseUnusable

connection = context.config.attributes["connection"]
is_sqlite = connection.dialect.name == "sqlite"


def _foreign_keys(switch: str) -> None:
    """SQLite alters a table by copying it and dropping the old one, which must not take the rows that
    refer to it along. It heeds this outside of a transaction only, so it goes past SQLAlchemy."""
    if is_sqlite:
        connection.connection.driver_connection.execute(f"PRAGMA foreign_keys = {switch}")


def _check_foreign_keys() -> None:
    if is_sqlite and (broken := connection.execute(sa.text("PRAGMA foreign_key_check")).all()):
        raise DatabaseUnusable(f"rows refer to others that are not there: {broken[:3]}; restore a backup")


def _take_turns() -> None:
    """SQLite has one writer at a time anyway; two in PostgreSQL would create the same tables."""
    if not is_sqlite:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('videomind migrations'))"))


_foreign_keys("OFF")
try:
    # One transaction from first to last: an upgrade that is cut off leaves the database as it was, and a
    # second process that upgrades at the same time waits and finds it done. SQLite can do it as well.
    with connection.begin():
        _take_turns()
        context.configure(
            connection=connection,
            target_metadata=archive_tables.Base.metadata,
            transactional_ddl=True,
            render_as_batch=is_sqlite,
            on_version_apply=context.config.attributes.get("applied"),
        )
        context.run_migrations()
        _check_foreign_keys()
finally:
    _foreign_keys("ON")
