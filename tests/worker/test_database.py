import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import make_url, text

from tests import servers
from worker import database
from worker.database import open_engine, shown, sqlite_file, translated_errors
from worker.errors import DatabaseUnusable


def test_sqlite_is_opened_for_several_processes(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path}/new/folder/a.db")
    with engine.begin() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 1, 30_000]


def test_opening_waits_while_another_process_sets_the_file_up(tmp_path: Path):
    file = tmp_path / "a.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE theirs (id)")
        other.execute("BEGIN IMMEDIATE")
        release = Timer(0.1, other.execute, ["COMMIT"])
        release.start()
        assert open_engine(f"sqlite:///{file}").connect().exec_driver_sql("SELECT 1").scalar_one() == 1
        release.join()


def test_a_transaction_is_a_writer_from_its_first_moment(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.connect() as first, engine.connect() as second:
        second.exec_driver_sql("PRAGMA busy_timeout = 1")
        second.rollback()
        first.begin()
        with pytest.raises(DatabaseUnusable, match="locked"), translated_errors(engine):
            second.begin()


def test_who_stops_in_a_transaction_keeps_nobody_from_its_rows_for_ever(postgresql_url: str, monkeypatch):
    monkeypatch.setattr(database, "IDLE_TIMEOUT_MS", 100)
    stopped, other = open_engine(postgresql_url), open_engine(postgresql_url)
    locked = text("INSERT INTO collections (name) VALUES ('depot')")
    with stopped.connect() as connection:
        connection.execute(locked)
        with other.begin() as waiting:
            waiting.execute(text("SET LOCAL lock_timeout = '1min'"))
            waiting.execute(locked)
        with pytest.raises(DatabaseUnusable, match="idle-in-transaction"), translated_errors(stopped):
            connection.execute(text("SELECT 1"))


def test_a_server_that_was_started_anew_is_found_by_who_was_idle(monkeypatch):
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.0)
    with servers.postgresql() as server:
        engine = open_engine(server.url(server.create()))
        for _ in range(2):
            with engine.begin() as connection:
                assert connection.scalar(text("SELECT 1")) == 1
            server.stop()
            server.start()
        engine.dispose()


def test_what_is_used_without_a_pause_is_not_looked_at(postgresql_url: str, monkeypatch):
    looked = []
    engine = open_engine(postgresql_url)
    monkeypatch.setattr(engine.dialect, "do_ping", lambda connection: looked.append(connection))
    monkeypatch.setattr(database, "IDLE_SECONDS", 60.0)
    for _ in range(3):
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
    assert looked == []
    monkeypatch.setattr(database, "IDLE_SECONDS", 0.0)
    with engine.begin():
        assert len(looked) == 1
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["", "films.db", "nosuch://x/y", "mysql+nosuchdriver://x/y", "sqlite:///%zz?timeout=x"]
)
def test_what_is_no_database_url_is_refused(url: str):
    with pytest.raises(DatabaseUnusable):
        open_engine(url).connect()


def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    (tmp_path / "film.db").write_bytes(b"not a database, certainly" * 100)
    engine = open_engine(f"sqlite:///{tmp_path}/film.db")
    with pytest.raises(DatabaseUnusable, match=r"film\.db.*not a database"), translated_errors(engine):
        engine.connect()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match=r"file/a\.db"):
        open_engine(f"sqlite:///{tmp_path}/file/a.db")


def test_a_database_is_named_without_its_password():
    named = shown(make_url("postgresql+psycopg://me:secret@db/videos"))
    assert named == "database postgresql+psycopg://me:***@db/videos"


@pytest.mark.parametrize("url", ["postgresql+psycopg://db/videos", "sqlite://", "videos"])
def test_a_database_without_a_file_is_read_with_its_own_client(url: str):
    with pytest.raises(DatabaseUnusable, match=r"own client|not a database URL"):
        sqlite_file(url)


def test_looking_for_the_file_makes_no_folder(tmp_path: Path):
    assert sqlite_file(f"sqlite:///{tmp_path}/none/a.db") == tmp_path / "none" / "a.db"
    assert list(tmp_path.iterdir()) == []
