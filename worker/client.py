"""How the databases' own clients are started: for reading, and without a password that others could see."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from worker.database import conninfo, postgresql_address, sqlite_file
from worker.errors import DatabaseUnusable

_INSTALL = {"psql": "postgresql-client", "sqlite3": "sqlite3"}


def command(url: str) -> tuple[list[str], Mapping[str, str]]:
    """The command line that opens a client, and what it needs in its environment.

    Everybody on a machine sees command lines, so the password is in the environment.

    Raises:
        DatabaseUnusable: no SQLite file that is there and no PostgreSQL, or its client is not installed.
    """
    address = postgresql_address(url)
    if address is None:
        return [_program("sqlite3"), "-readonly", str(_there(sqlite_file(url)))], {}
    given = address.pop("options", os.environ.get("PGOPTIONS", ""))
    environment = {"PGOPTIONS": f"{given} -c default_transaction_read_only=on".strip()}
    if password := address.pop("password", None):
        environment["PGPASSWORD"] = password
    return [_program("psql"), conninfo(address)], environment


def _there(file: Path) -> Path:
    if not file.is_file():
        raise DatabaseUnusable(f"there is no database {file}: has anything been stored yet?")
    return file.absolute()


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise DatabaseUnusable(
            f"{name} is not installed: install {_INSTALL[name]}, or give a statement: "
            'videomind sql "SELECT ..."'
        )
    return found
