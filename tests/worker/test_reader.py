from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.servers import DATABASES
from worker import reader
from worker.errors import DatabaseUnusable, StatementRefused

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT max(i) FROM n"


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def filled(url: str, submitted) -> str:
    """The URL of a database with one analysis."""
    submitted("Who comes in?")
    return url


def test_a_select_gives_names_and_rows(filled: str):
    rows = reader.read(filled, "SELECT question, attempts FROM analyses;")
    assert rows == reader.Rows(("question", "attempts"), [("Who comes in?", 0)])


def test_views_functions_recursion_and_patterns_can_be_read(filled: str):
    assert reader.read(filled, "SELECT count(*) FROM moment_view").values == [(0,)]
    assert reader.read(filled, NUMBERS).values == [(9,)]
    assert reader.read(filled, "SELECT count(*) FROM analyses WHERE question LIKE 'Who%'").values == [(1,)]


@pytest.mark.parametrize("database", ["sqlite"])
def test_full_text_search_can_be_read_and_its_tables_not_be_changed(filled: str):
    found = "SELECT analysis_id FROM search_index WHERE search_index MATCH 'comes'"
    assert reader.read(filled, found).values == [(1,)]
    for statement in (
        "UPDATE sqlite_master SET sql = ''",
        "INSERT INTO search_index (document) VALUES ('x')",
        "UPDATE search_index SET document = ''",
    ):
        with pytest.raises(StatementRefused):
            reader.read(filled, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM analyses",
        "INSERT INTO collections (name) VALUES ('x')",
        "DROP TABLE analyses",
        "CREATE TEMP TABLE t (x INTEGER)",
        "BEGIN",
        "COMMIT; DELETE FROM analyses",
        "SELECT 1; DELETE FROM analyses",
        "SELECT 1; SELECT 2",
        "SELEC 1",
        "SELECT '\0'",
    ],
)
def test_anything_but_one_select_is_refused(filled: str, statement: str):
    with pytest.raises(StatementRefused):
        reader.read(filled, statement)
    assert reader.read(filled, "SELECT count(*) FROM analyses").values == [(1,)]


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM secrets", "SELECT count(*) FROM Secrets", "SELECT s.url FROM main.secrets AS s"],
)
def test_secrets_are_not_read(filled: str, statement: str):
    with pytest.raises(StatementRefused, match=r"prohibited|not authorized"):
        reader.read(filled, statement)


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("statement", ["PRAGMA journal_mode = DELETE", "BEGIN EXCLUSIVE"])
def test_sqlites_own_statements_are_refused(filled: str, statement: str):
    with pytest.raises(StatementRefused):
        reader.read(filled, statement)


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize(
    "statement",
    [
        "WITH gone AS (DELETE FROM analyses RETURNING id) SELECT count(*) FROM gone",
        "SELECT setval('analyses_id_seq', 99)",
        "SELECT * FROM analyses FOR UPDATE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "DO 'BEGIN DELETE FROM analyses; END'",
        "COPY analyses TO '/tmp/analyses'",
        "EXPLAIN ANALYZE DELETE FROM analyses",
    ],
)
def test_postgresqls_ways_around_are_closed(filled: str, statement: str):
    with pytest.raises(StatementRefused):
        reader.read(filled, statement)
    assert reader.read(filled, "SELECT count(*) FROM analyses").values == [(1,)]


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_a_function_does_is_undone(filled: str):
    """From version 16 on PostgreSQL does not begin it."""
    with suppress(StatementRefused):
        reader.read(filled, "SELECT lo_create(0)")
    assert reader.read(filled, "SELECT count(*) FROM pg_largeobject_metadata").values == [(0,)]


@pytest.mark.parametrize("database", ["sqlite"])
@pytest.mark.parametrize("statement", ["ATTACH '{}' AS other", "VACUUM INTO '{}'"])
def test_no_file_is_made_beside_the_database(filled: str, statement: str, tmp_path: Path):
    made = tmp_path / "made.db"
    with pytest.raises(StatementRefused):
        reader.read(filled, statement.format(made))
    assert not made.exists()


def test_an_endless_statement_is_stopped(filled: str):
    with pytest.raises(StatementRefused, match=r"interrupted|statement timeout"):
        reader.read(filled, ENDLESS, seconds=0.05)


def test_what_is_read_waits_for_no_writer(filled: str, store):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE analyses SET attempts = 7"))
        assert reader.read(filled, "SELECT attempts FROM analyses").values == [(0,)]


def test_a_missing_database_is_not_made(tmp_path: Path):
    with pytest.raises(DatabaseUnusable, match=r"none\.db"):
        reader.read(f"sqlite:///{tmp_path}/none.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["postgresql+psycopg://nobody:hush@127.0.0.1:1/none", "mysql://a:hush@b/c", "nonsense"],
    ids=["postgresql", "mysql", "nonsense"],
)
def test_a_database_that_cannot_be_read_is_named_without_its_password(url: str):
    with pytest.raises(DatabaseUnusable) as refused:
        reader.read(url, "SELECT 1")
    assert "hush" not in str(refused.value)
