"""What PostgreSQL has to be told so that analysts may read everything and change nothing.

Read-only is what a role has not been granted: settings such as default_transaction_read_only are the role's
to change. SQLite knows no roles; there `worker.reader` takes care.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from worker.columns import Secret
from worker.database import open_engine, shown, translated_errors
from worker.errors import DatabaseUnusable

LONGEST_NAME = 63
"""Bytes. PostgreSQL cuts off what is longer, and would take another role's name for it."""

NO_LARGE_OBJECTS = tuple(
    f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC"
    for function in ("lo_creat(integer)", "lo_create(oid)", "lo_from_bytea(oid, bytea)")
)
"""Large objects lie beside the schemas, and anybody may make them. Only a superuser can change that."""


@dataclass(frozen=True)
class Place:
    """Where the tables are, and whose they are: the owner also makes the tables of later versions."""

    database: str
    schema: str
    owner: str


def statements(role: str, place: Place, *, exists: bool = False, login: bool = False) -> list[str]:
    """All that lets a role read tables and views but the secrets, those to come included, and takes
    everything else.

    Temporary tables and the schema are closed to everybody (PUBLIC) but their owner, since a role always has
    what everybody has. Whoever logs in needs a password as well, which is not set here.

    Args:
        exists: the role is there already.

    Raises:
        DatabaseUnusable: not a name that a role can have.
    """
    reader, database = _quoted(role), _quoted(place.database)
    schema, owner = _quoted(place.schema), _quoted(place.owner)
    entry = "LOGIN" if login else "NOLOGIN"
    role_itself = f"ALTER ROLE {reader} {entry} NOCREATEDB NOCREATEROLE" if exists else None
    return [
        role_itself or f"CREATE ROLE {reader} {entry}",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        f"REVOKE ALL ON DATABASE {database} FROM {reader}",
        f"REVOKE ALL ON SCHEMA {schema} FROM {reader}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {reader}",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA {schema} FROM {reader}",
        f"GRANT CONNECT ON DATABASE {database} TO {reader}",
        f"GRANT USAGE ON SCHEMA {schema} TO {reader}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {reader}",
        f"REVOKE ALL ON {schema}.{Secret.__tablename__} FROM {reader}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
    ]


def apply(url: str, role: str, *, login: bool = False, dry: bool = False) -> list[str]:
    """Makes the role if need be, and gives it the right to read; gives the statements that were run.

    The URL's user must own the database or be a superuser, and be allowed to make roles.

    Args:
        dry: run nothing, only give the statements.

    Raises:
        DatabaseUnusable: no PostgreSQL, no tables yet, or not a role that can be kept from writing.
    """
    engine = open_engine(url)
    try:
        if engine.dialect.name != "postgresql":
            raise DatabaseUnusable(
                f"{shown(engine.url)} has no roles: give its file's readers no more rights"
            )
        with translated_errors(engine), engine.begin() as connection:
            chosen = _chosen(connection, role, login)
            plain = connection.execution_options(no_parameters=True)  # a name may hold a percent sign
            for statement in () if dry else chosen:
                plain.exec_driver_sql(statement)
            return chosen
    finally:
        engine.dispose()


def _chosen(connection: Connection, role: str, login: bool) -> list[str]:
    place = _place(connection)
    roles = connection.exec_driver_sql("SELECT rolname, rolsuper FROM pg_roles")
    powers: dict[str, bool] = dict(roles.all())
    if powers.get(role) or role == place.owner:
        raise DatabaseUnusable(f"{role} may change everything: name a role that is for reading only")
    found = statements(role, place, exists=role in powers, login=login)
    if powers[connection.exec_driver_sql("SELECT current_user").scalar_one()]:
        found += NO_LARGE_OBJECTS
    return found


def _place(connection: Connection) -> Place:
    found = connection.exec_driver_sql(
        "SELECT current_database(), schemaname, tableowner FROM pg_tables "
        "WHERE tablename = 'alembic_version' AND schemaname = current_schema()"
    ).one_or_none()
    if found is None:
        raise DatabaseUnusable(
            f"{shown(connection.engine.url)} has no tables yet: run `videomind db upgrade`"
        )
    return Place(*found)


def _quoted(name: str) -> str:
    """A name that stays a name, whatever is in it."""
    if not name or "\0" in name or len(name.encode("utf-8", "surrogatepass")) > LONGEST_NAME:
        raise DatabaseUnusable(f"not a name for PostgreSQL: {name!a}; give 1 to {LONGEST_NAME} bytes")
    return '"' + name.replace('"', '""') + '"'
