from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from worker import schema
from worker.database import open_engine
from worker.errors import DatabaseUnusable, StaleSchema
from worker.store import Store
from worker.tables import Base


def _tables(url: str) -> set[str]:
    return set(inspect(open_engine(url)).get_table_names())


def _execute(url: str, statement: str) -> None:
    with open_engine(url).begin() as connection:
        connection.execute(text(statement))


@pytest.fixture
def empty(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/empty.db"


def test_the_migrations_make_exactly_the_tables_of_the_models(url: str):
    with open_engine(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_migrations_name_every_check_as_the_models_do(url: str):
    inspector = inspect(open_engine(url))
    for table in Base.metadata.sorted_tables:
        migrated = {check["name"]: check["sqltext"] for check in inspector.get_check_constraints(table.name)}
        modelled = {c.name: str(c.sqltext) for c in table.constraints if hasattr(c, "sqltext")}
        assert migrated == modelled


def test_upgrading_twice_changes_nothing(url: str):
    schema.upgrade(url)
    assert schema.check(url) == "0001"


def test_a_downgrade_removes_every_table_and_view_even_with_rows(url: str, store: Store, claimed, source):
    with schema.alembic_config(url) as config:
        command.downgrade(config, "base")
    assert _tables(url) == {"alembic_version"}
    assert inspect(open_engine(url)).get_view_names() == []


def test_after_a_downgrade_the_upgrade_works_again(url: str):
    with schema.alembic_config(url) as config:
        command.downgrade(config, "base")
    schema.upgrade(url)
    assert schema.check(url) == "0001"


def test_an_upgrade_that_fails_half_way_leaves_the_database_as_it_was(empty: str):
    _execute(empty, "CREATE TABLE answers (theirs INTEGER)")
    with pytest.raises(DatabaseUnusable, match="answers already exists"):
        schema.upgrade(empty)
    assert _tables(empty) == {"answers"}


def test_a_new_embedded_database_is_set_up_unasked(empty: str):
    schema.prepare(empty)
    assert schema.check(empty) == "0001"


def test_a_database_somebody_uses_is_not_touched_unasked(empty: str):
    _execute(empty, "CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(StaleSchema, match="videomind db upgrade"):
        schema.prepare(empty)
    assert _tables(empty) == {"theirs"}


def test_tables_of_another_version_are_refused_with_the_command_to_run(url: str):
    _execute(url, "UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(StaleSchema, match=r"version 0000, .* needs 0001: run `videomind db upgrade`"):
        schema.prepare(url)


def test_tables_of_a_newer_program_are_not_upgraded(url: str):
    _execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StaleSchema, match="newer program"):
        schema.upgrade(url)
