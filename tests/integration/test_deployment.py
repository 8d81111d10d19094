"""`docker-compose.yml` without an engine: its form, and the very commands it names as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests import commands, servers
from tests.integration.test_worker import PARITY, PATIENCE, VIDEOMIND, VIDEOS

FILE = Path(__file__).parents[2] / "docker-compose.yml"
OURS = ("migrate", "ingest", "analyse-gpu", "analyse-cpu", "beat")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


def test_every_service_is_restarted_and_watched(services: dict[str, Any]):
    for name, service in services.items():
        once = name == "migrate"
        assert service["restart"] == ("no" if once else "unless-stopped"), name
        assert once or "healthcheck" in service, name


def test_every_volume_that_is_named_is_declared_and_media_are_mounted_read_only(compose, services):
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if re.fullmatch(r"[a-z]+", source):
                assert source in compose["volumes"]
            else:
                assert volume.endswith(":ro"), volume


def test_whatever_waits_for_another_service_waits_for_one_that_is_there(services: dict[str, Any]):
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            tells = condition["condition"]
            assert tells == "service_completed_successfully" or "healthcheck" in services[name]


def test_our_processes_have_no_rights_that_they_do_not_need(services: dict[str, Any]):
    for name in OURS:
        service = services[name]
        assert service["user"] == "1000:1000"
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_nobody_is_root(services: dict[str, Any]):
    users = {name: service.get("user") for name, service in services.items()}
    assert users.pop("metrics") is None  # its image has a user of its own
    assert "root" not in users.values()
    assert all(users.values()), users


def test_redis_keeps_its_messages_and_asks_for_a_password(services: dict[str, Any]):
    command = services["redis"]["command"]
    told = dict(zip(command[1::2], command[2::2], strict=True))
    assert told["--appendonly"] == "yes"
    assert told["--maxmemory-policy"] == "noeviction"
    assert "REDIS_PASSWORD" in told["--requirepass"]


def test_one_process_answers_on_each_gpu_and_there_is_a_profile_without(services: dict[str, Any]):
    (device,) = services["analyse-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == 1
    assert services["analyse-cpu"]["profiles"] == ["cpu"]
    assert services["analyse-cpu"]["command"] == services["analyse-gpu"]["command"]


def test_every_setting_that_is_named_is_one(services: dict[str, Any]):
    from worker.settings import Settings

    known = {f"VIDEOMIND_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        assert {key for key in services[name]["environment"] if key != "HOME"} <= known


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([VIDEOMIND, *command[1:]], env=environment)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, command
    finally:
        process.kill()


def test_its_commands_take_a_video_in_and_answer(
    services: dict[str, Any],
    postgresql: servers.PostgreSQL,
    redis_server: servers.Redis,
    tmp_path: Path,
):
    url = postgresql.url(postgresql.create())
    environment = {
        **os.environ,
        **dict.fromkeys(services["ingest"]["environment"], ""),
        "HOME": str(tmp_path),
        "VIDEOMIND_DATABASE_URL": url,
        "VIDEOMIND_BROKER_URL": redis_server.url,
        "VIDEOMIND_CHECKPOINT": str(PARITY / "checkpoint"),
        "VIDEOMIND_BASE": str(PARITY / "base"),
        "VIDEOMIND_MEDIA_ROOTS": str(VIDEOS),
        "VIDEOMIND_SCRATCH": str(tmp_path / "scratch"),
        "VIDEOMIND_FEATURE_CACHE": str(tmp_path / "features"),
        "VIDEOMIND_SWEEP_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
    }
    migrate = [VIDEOMIND, *services["migrate"]["command"][1:]]
    subprocess.run(migrate, env=environment, check=True, timeout=PATIENCE)
    with ExitStack() as stack:
        for name in ("ingest", "analyse-cpu", "beat"):
            stack.enter_context(_running(services[name]["command"], environment))
        asked = ["submit", str(VIDEOS / "tiny3s.mp4"), "-q", "Why did the man appear?"]
        assert commands.start(*asked, environment=environment).ended(PATIENCE).returncode == 0
        assert _until_answered(url) == [("succeeded",)]
        assert list((tmp_path / "features").rglob("*.safetensors"))
    for name, code in (("ingest", 3), ("beat", 0)):  # no worker is there any more
        probe = [VIDEOMIND, *services[name]["healthcheck"]["test"][2:]]
        health = subprocess.run(probe, env=environment, capture_output=True, timeout=PATIENCE)
        assert health.returncode == code, health.stdout


def _until_answered(url: str) -> list[tuple]:
    deadline = time.monotonic() + PATIENCE
    found: list[tuple] = []
    while found != [("succeeded",)]:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            found = connection.execute(b"SELECT state FROM analyses").fetchall()
    return found
