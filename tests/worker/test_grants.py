import re
from collections.abc import Callable, Iterator
from itertools import count

import psycopg
import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from tests.servers import PostgreSQL
from worker import grants, schema
from worker.errors import DatabaseUnusable
from worker.grants import Place

numbers = count(1)
NOT_ALLOWED = errors.InsufficientPrivilege, errors.WrongObjectType, errors.ObjectNotInPrerequisiteState
REFUSED = (
    "INSERT INTO collections (name) VALUES ('theirs')",
    "UPDATE analyses SET priority = 9",
    "DELETE FROM videos",
    "TRUNCATE answers",
    "INSERT INTO queue_view (queue) VALUES ('x')",
    "SELECT id FROM analyses FOR UPDATE",
    "SELECT nextval('videos_id_seq')",
    "CREATE TABLE theirs (id INTEGER)",
    "CREATE TEMPORARY TABLE theirs (id INTEGER)",
    "SELECT 1 AS one INTO TEMPORARY theirs",
    "CREATE VIEW theirs AS SELECT 1",
    "CREATE FUNCTION theirs() RETURNS INTEGER LANGUAGE SQL AS 'SELECT 1'",
    "CREATE SCHEMA theirs",
    "CREATE ROLE theirs",
    "DROP VIEW moment_view",
    "ALTER TABLE analyses ADD theirs INTEGER",
    "SET ROLE postgres",
    "COPY videos TO '/tmp/theirs'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
)
PLACE = Place("videos", "public", "videomind")


@pytest.fixture
def role(postgresql: PostgreSQL) -> Iterator[str]:
    """A name that is not taken; the role is forgotten afterwards. Roles are the whole server's."""
    name = f'analysts "{next(numbers)}" %s :x; --'
    yield name
    postgresql.execute(f"DROP ROLE IF EXISTS {grants._quoted(name)}")


@pytest.fixture
def url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture
def run(postgresql: PostgreSQL, url: str, role: str) -> Iterator[Callable[..., list[tuple]]]:
    """Runs a statement as the role: what an analyst may do."""
    opened = []

    def as_analyst(statement: str) -> list[tuple]:
        if not opened:
            name = url.rsplit("/", 1)[1]
            opened.append(psycopg.connect(host="127.0.0.1", port=postgresql.port, dbname=name, user=role))
        with opened[0].transaction():
            done = opened[0].execute(statement.encode())
            return done.fetchall() if done.description else []

    yield as_analyst
    for connection in opened:
        connection.close()
        _forget(url, role)


@pytest.fixture
def granted(url: str, role: str, registered) -> None:
    """The role may log in and read; one analysis is there, of a video that a password opens."""
    registered("Who comes in?", uri="https://anna:hush@cams.example/gate.mp4")
    grants.apply(url, role, login=True)


def _forget(url: str, role: str) -> None:
    """Takes all rights, so that the role can go."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {grants._quoted(role)}".encode())


def test_analysts_can_read_every_table_and_view(granted, run: Callable):
    names = run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    assert len(names) >= 14
    for (name,) in names:
        run(f"SELECT * FROM {name}")
    assert run("SELECT question FROM queue_view") == [("Who comes in?",)]


def test_analysts_see_where_videos_are_and_nothing_that_opens_them(granted, run: Callable):
    assert run("SELECT uri FROM videos") == run("SELECT video FROM queue_view WHERE queue = 'analyse'")
    assert run("SELECT uri FROM videos") == [("https://anna:***@cams.example/gate.mp4",)]
    for statement in ("SELECT * FROM secrets", "SELECT count(*) FROM secrets", "TABLE secrets"):
        with pytest.raises(errors.InsufficientPrivilege):
            run(statement)


def test_an_upgrade_shows_no_secret_to_analysts_there_were_before(granted, run: Callable, url: str):
    with schema.alembic_config(url) as config:
        command.downgrade(config, "0002")
    assert "hush" in run("SELECT uri FROM videos")[0][0]
    schema.upgrade(url)
    with pytest.raises(errors.InsufficientPrivilege):
        run("SELECT * FROM secrets")
    assert run("SELECT uri FROM videos") == [("https://anna:***@cams.example/gate.mp4",)]


def test_analysts_can_neither_write_nor_create_nor_fill_the_disk(
    granted, run: Callable, subtests: pytest.Subtests
):
    run("SET default_transaction_read_only = off")
    for statement in REFUSED:
        with subtests.test(statement=statement), pytest.raises(NOT_ALLOWED):
            run(statement)
    assert run("SELECT count(*) FROM analyses WHERE priority = 5") == [(1,)]


def test_analysts_can_read_what_a_later_version_adds(granted, run: Callable, url: str):
    with schema.alembic_config(url) as config:
        command.downgrade(config, "0001")
    schema.upgrade(url)
    assert run("SELECT count(*) FROM coverage_gap_view") == [(1,)]


def test_what_a_role_could_do_before_is_taken_away(url: str, role: str, submitted, run: Callable):
    submitted("Who comes in?")
    grants.apply(url, role, login=True)
    reader = grants._quoted(role)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for more in (
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {reader}",
            f"GRANT ALL ON SCHEMA public TO {reader}",
            f"GRANT ALL ON DATABASE {url.rsplit('/', 1)[1]} TO {reader}",
            f"ALTER ROLE {reader} CREATEDB CREATEROLE",
        ):
            connection.execute(more.encode())
    grants.apply(url, role, login=True)
    for statement in (
        "DELETE FROM videos",
        "CREATE TABLE t ()",
        "CREATE TEMP TABLE t ()",
        "CREATE ROLE theirs",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            run(statement)
    assert run("SELECT count(*) FROM videos") == [(1,)]


def test_a_group_cannot_log_in_by_itself(url: str, role: str, run: Callable):
    grants.apply(url, role)
    try:
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            run("SELECT 1")
    finally:
        _forget(url, role)


def test_the_statements_that_were_run_are_told(url: str, role: str):
    told = grants.apply(url, role)
    _forget(url, role)
    assert told[0] == f"CREATE ROLE {grants._quoted(role)} NOLOGIN"
    assert any(statement.startswith("GRANT SELECT ON ALL TABLES") for statement in told)


def test_who_owns_the_tables_or_may_do_everything_is_no_analyst(url: str):
    with pytest.raises(DatabaseUnusable, match="may change everything"):
        grants.apply(url, "postgres")


def test_without_tables_there_is_nothing_to_read(empty_postgresql_url: str):
    with pytest.raises(DatabaseUnusable, match="videomind db upgrade"):
        grants.apply(empty_postgresql_url, "analysts")


def test_sqlite_has_no_roles(sqlite_url: str):
    with pytest.raises(DatabaseUnusable, match="has no roles"):
        grants.apply(sqlite_url, "analysts")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15))
def test_a_name_stays_one_name_whatever_is_in_it(name: str):
    for statement in grants.statements(name, PLACE):
        assert _names(statement) <= {name, "videos", "public", "videomind"}


def _names(statement: str) -> set[str]:
    """What PostgreSQL takes for quoted names."""
    plain, *others = re.split(r'"((?:[^"]|"")*)"', statement)[::2]
    assert not any('"' in part for part in (plain, *others))
    return {name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")*)"', statement)}


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64, "ü" * 32])
def test_what_would_not_stay_a_name_is_refused(name: str):
    with pytest.raises(DatabaseUnusable, match="not a name"):
        grants.statements(name, PLACE)
