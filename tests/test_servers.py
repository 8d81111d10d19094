"""The servers that tests rely on: they answer, they come back, and they leave nothing behind."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from tests import servers

STARTER = """
import sys, time
from tests import servers
with servers.redis_server() as server, servers.quick_folder() as folder:
    (folder / "file").touch()
    print(server.port, server.folder, folder, flush=True)
    time.sleep(600)
"""


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_each_test_has_an_empty_redis(redis_url: str):
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_has_an_empty_postgresql_of_its_own(empty_postgresql_url: str, again: int):
    with psycopg.connect(empty_postgresql_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")


def test_a_server_that_was_killed_or_stopped_comes_back_at_its_place():
    with servers.redis_server() as server:
        for end in (server.kill, server.stop):
            port = server.port
            end()
            assert not _listens(port)
            server.start()
            assert server.client().ping()


def test_a_postgresql_that_was_killed_has_kept_what_was_committed():
    with servers.postgresql() as server:
        name = server.create()
        server.kill()
        server.start()
        with psycopg.connect(server.url(name).replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_nothing_is_left_of_a_test_run_that_is_killed():
    started = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    port, *folders = started.stdout.readline().split()
    assert _listens(int(port))
    assert all(Path(folder).exists() for folder in folders)
    started.kill()
    started.communicate()
    deadline = time.monotonic() + 30
    while (_listens(int(port)) or any(map(os.path.exists, folders))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _listens(int(port))
    assert not any(map(os.path.exists, folders))


def test_a_missing_program_is_named_with_what_to_install():
    with pytest.raises(RuntimeError, match="apt-get install redis-server"):
        servers._program("no-such-server", "Redis", "redis-server")
