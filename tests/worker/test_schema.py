from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from tests.servers import DATABASES, together
from worker import cli, schema
from worker.archive_tables import Base
from worker.database import open_engine
from worker.errors import DatabaseUnusable, StaleSchema

pytestmark = pytest.mark.parametrize("database", DATABASES)

HEAD = "0007"
CLAIM_INDEXES = ("ix_submissions_state_priority_submitted_at", "ix_analyses_state_priority_submitted_at")


def _tables(url: str) -> set[str]:
    return set(inspect(open_engine(url)).get_table_names())


def _execute(url: str, statement: str) -> None:
    with open_engine(url).begin() as connection:
        connection.execute(text(statement))


def _migrate(url: str, revision: str) -> None:
    with schema.alembic_config(url) as config:
        how = command.downgrade if revision == "base" else command.upgrade
        how(config, revision)


def _of_a_model(thing: object, name: str | None, kind: str, reflected: bool, compared: object) -> bool:
    """The search index is the database's own: no model stands for it. Which way an index is sorted, and what
    it makes of a column, cannot be compared everywhere; that has tests of its own."""
    if kind == "index":
        return str(name) not in (*CLAIM_INDEXES, "ix_moments_day")
    return not (kind == "table" and reflected and str(name).startswith("search_index"))


def test_the_migrations_make_exactly_the_tables_of_the_models(url: str):
    options = {"compare_type": True, "include_object": _of_a_model}
    with open_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_each_step_of_an_upgrade_is_told_before_it_is_done(empty: str):
    told: list[tuple[str, float]] = []
    _migrate(empty, "0005")
    schema.upgrade(empty, lambda step, fraction: told.append((step, fraction)))
    assert told == [("version 0006", 0.0), ("version 0007", 0.5), ("", 1.0)]
    schema.upgrade(empty, lambda step, fraction: told.append((step, fraction)))
    assert len(told) == 3


def test_the_migrations_make_every_check_of_the_models(url: str, database: str):
    inspector = inspect(open_engine(url))
    for table in Base.metadata.sorted_tables:
        migrated = {check["name"]: check["sqltext"] for check in inspector.get_check_constraints(table.name)}
        modelled = {c.name: str(c.sqltext) for c in table.constraints if hasattr(c, "sqltext")}
        assert migrated.keys() == modelled.keys()
        if database == "sqlite":  # PostgreSQL gives them back in words of its own
            assert migrated == modelled


def test_the_migrations_sort_every_index_as_the_models_do(url: str):
    inspector = inspect(open_engine(url))
    for table, name in zip(("submissions", "analyses"), CLAIM_INDEXES, strict=True):
        (found,) = (index for index in inspector.get_indexes(table) if index["name"] == name)
        assert found["column_names"] == ["state", "priority", "submitted_at"]
    with open_engine(url).connect() as connection:
        catalogue = {
            "sqlite": "SELECT sql FROM sqlite_master",
            "postgresql": "SELECT indexdef FROM pg_indexes",
        }
        found = connection.exec_driver_sql(catalogue[connection.dialect.name]).scalars().all()
    assert sum("priority DESC" in str(definition) for definition in found) == 2


def test_upgrading_twice_changes_nothing(url: str):
    schema.upgrade(url)
    assert schema.check(url) == HEAD


def test_two_that_upgrade_at_the_same_time_both_succeed(empty: str):
    script = "import sys; from worker import schema; schema.upgrade(sys.argv[1])"
    assert together(script, empty, processes=2) == ["", ""]
    assert schema.check(empty) == HEAD


def test_a_downgrade_removes_every_table_and_view_even_with_rows(url: str, submitted):
    submitted("Who?")
    _migrate(url, "base")
    assert _tables(url) == {"alembic_version"}
    assert inspect(open_engine(url)).get_view_names() == []


def test_after_a_downgrade_the_upgrade_works_again(url: str):
    _migrate(url, "base")
    schema.upgrade(url)
    assert schema.check(url) == HEAD


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(empty: str):
    _execute(empty, "CREATE TABLE answers (theirs INTEGER)")
    with pytest.raises(DatabaseUnusable, match=r"answers\W* already exists"):
        schema.upgrade(empty)
    assert _tables(empty) == {"answers"}


def test_only_a_new_embedded_database_is_set_up_unasked(empty: str, database: str):
    if database == "postgresql":
        with pytest.raises(StaleSchema, match="has tables of version none"):
            schema.prepare(empty)
        return
    schema.prepare(empty)
    assert schema.check(empty) == HEAD


def test_a_database_somebody_uses_is_not_touched_unasked(empty: str):
    _execute(empty, "CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(StaleSchema, match="videomind db upgrade"):
        schema.prepare(empty)
    assert _tables(empty) == {"theirs"}


def test_tables_of_an_older_program_are_refused_with_the_command_to_run(empty: str):
    _migrate(empty, "0001")
    with pytest.raises(StaleSchema, match=r"version 0001, .* needs 0007: run `videomind db upgrade`"):
        schema.prepare(empty)


def test_db_check_refuses_tables_of_an_older_program(empty: str):
    _migrate(empty, "0001")
    with pytest.raises(StaleSchema):
        cli.mounted()(["db", "check", "--database", empty])
    assert _tables(empty) >= {"analyses"}


def test_tables_of_a_newer_program_are_not_upgraded(url: str):
    _execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StaleSchema, match="newer program"):
        schema.upgrade(url)


def test_an_upgrade_needs_no_folder_of_its_own(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    schema.upgrade(empty)
    assert schema.check(empty) == HEAD
