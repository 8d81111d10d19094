"""Who may import what: the library knows no service, and each outside library has one door."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("vm", "worker", "migrations") for path in (ROOT / folder).rglob("*.py"))

DOORS = {
    "av": ("vm/video/",),
    "sqlalchemy": (
        "worker/store/",
        "worker/tables.py",
        "worker/archive_tables.py",
        "worker/columns.py",
        "worker/database.py",
        "worker/grants.py",
        "migrations/",
    ),
    "sqlite3": ("worker/reader.py", "worker/database.py"),
    "alembic": ("worker/schema.py", "migrations/"),
    "celery": ("worker/celery_app.py", "worker/tasks.py", "worker/engine.py", "worker/requests.py"),
    "kombu": ("worker/celery_app.py", "worker/broker.py"),
    "billiard": ("worker/requests.py",),
    "prometheus_client": ("worker/metrics.py",),
    "jsonschema": ("worker/contract/",),
    "httpx2": ("worker/sources/",),
    "httpcore2": ("worker/sources/",),
    "fsspec": ("worker/sources/",),
    "redis": (),
    "migrations": ("worker/schema.py",),
    "worker": ("worker/", "migrations/"),
    "huggingface_hub": ("vm/hub",),
}


@cache
def _imported(path: Path) -> frozenset[str]:
    """The top-level names of all modules a file imports, wherever in the file."""
    return frozenset(_names(path))


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_door_imports_an_outside_library(path: Path):
    place = path.relative_to(ROOT).as_posix()
    for name in _imported(path):
        assert place.startswith(DOORS.get(name, ("",))), f"{place} must not import {name}"


@pytest.mark.parametrize("name", [name for name, doors in DOORS.items() if doors])
def test_every_door_is_used(name: str):
    users = {path.relative_to(ROOT).as_posix() for path in SOURCES if name in _imported(path)}
    assert all(any(user.startswith(door) for user in users) for door in DOORS[name])


def test_the_tasks_hold_no_logic():
    """A task is one statement after another: what branches or loops belongs into the service."""
    tree = ast.parse((ROOT / "worker/tasks.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, ast.If | ast.For | ast.While | ast.Try) for node in ast.walk(tree))
