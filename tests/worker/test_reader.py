from pathlib import Path

import pytest

from worker import reader
from worker.errors import DatabaseUnusable, StatementRefused

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def file(store, submitted) -> Path:
    submitted("Who comes in?")
    return Path(store.engine.url.database)


def test_a_select_gives_names_and_rows(file: Path):
    rows = reader.read(file, "SELECT question, attempts FROM analyses")
    assert rows == reader.Rows(("question", "attempts"), [("Who comes in?", 0)])


def test_views_functions_and_recursion_can_be_read(file: Path):
    numbers = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT max(i) FROM n"
    )
    assert reader.read(file, "SELECT count(*) FROM moment_view").values == [(0,)]
    assert reader.read(file, numbers).values == [(9,)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM analyses",
        "INSERT INTO videos (sha256) VALUES ('x')",
        "DROP TABLE analyses",
        "CREATE TEMP TABLE t (x)",
        "PRAGMA journal_mode = DELETE",
        "BEGIN EXCLUSIVE",
        "SELECT 1; DELETE FROM analyses",
        "SELEC 1",
    ],
)
def test_anything_but_one_select_is_refused(file: Path, statement: str):
    with pytest.raises(StatementRefused):
        reader.read(file, statement)
    assert reader.read(file, "SELECT count(*) FROM analyses").values == [(1,)]


@pytest.mark.parametrize("statement", ["ATTACH '{}' AS other", "VACUUM INTO '{}'"])
def test_no_file_is_made_beside_the_database(file: Path, statement: str, tmp_path: Path):
    made = tmp_path / "made.db"
    with pytest.raises(StatementRefused):
        reader.read(file, statement.format(made))
    assert not made.exists()


def test_an_endless_statement_is_stopped(file: Path):
    with pytest.raises(StatementRefused, match="interrupted"):
        reader.read(file, ENDLESS, seconds=0.05)


def test_a_missing_database_is_not_made(tmp_path: Path):
    with pytest.raises(DatabaseUnusable, match=r"none\.db"):
        reader.read(tmp_path / "none.db", "SELECT 1")
    assert list(tmp_path.iterdir()) == []
