from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from worker import settings as module
from worker.errors import InvalidSettings
from worker.settings import Settings, current, using


def test_nothing_configured_means_sqlite_in_the_users_data_directory_and_no_broker():
    settings = Settings.from_environment({"XDG_DATA_HOME": "/data"})
    assert settings == Settings(
        "sqlite:////data/videomind/videomind.db", scratch=Path("/data/videomind/scratch")
    )


def test_without_a_data_directory_the_database_is_below_the_home():
    url = Settings.from_environment({}).database_url
    assert url == f"sqlite:///{Path.home()}/.local/share/videomind/videomind.db"


def test_every_variable_is_taken_over():
    environment = {
        "VIDEOMIND_DATABASE_URL": "postgresql+psycopg://db/videos",
        "VIDEOMIND_BROKER_URL": "redis://broker",
        "VIDEOMIND_RESULT_URL": "redis://broker/1",
        "VIDEOMIND_CHECKPOINT": "/models/checkpoint",
        "VIDEOMIND_BASE": "/models/base",
        "VIDEOMIND_DEVICE": "cuda:1",
        "VIDEOMIND_DTYPE": "bfloat16",
        "VIDEOMIND_MEDIA_ROOTS": "/videos:/more",
        "VIDEOMIND_ALLOWED_NETWORKS": "10.1.0.0/16, fd00::/8",
        "VIDEOMIND_SCRATCH": "/scratch",
        "VIDEOMIND_SCRATCH_BYTES": "1e9",
        "VIDEOMIND_MAX_BYTES": "1000",
        "VIDEOMIND_FETCH_SECONDS": "60",
        "VIDEOMIND_DECODER_BYTES": "2000",
        "VIDEOMIND_LEASE_SECONDS": "10",
        "VIDEOMIND_STALLED_SECONDS": "20",
        "VIDEOMIND_MAX_ATTEMPTS": "3",
        "VIDEOMIND_SWEEP_SECONDS": "1.5",
        "VIDEOMIND_METRICS_PORT": "9000",
        "VIDEOMIND_TASK_SECONDS": "100",
        "VIDEOMIND_LOG": "json",
    }
    assert {name.removeprefix("VIDEOMIND_").lower() for name in environment} == {
        field.name for field in fields(Settings)
    }
    settings = Settings.from_environment(environment)
    assert settings.media_roots == (Path("/videos"), Path("/more"))
    assert settings.allowed_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert (settings.scratch, settings.scratch_bytes, settings.max_bytes) == (Path("/scratch"), 10**9, 1000)
    assert (settings.lease_seconds, settings.sweep_seconds, settings.max_attempts) == (10, 1.5, 3)
    assert (settings.metrics_port, settings.log, settings.result_url) == (9000, "json", "redis://broker/1")


def test_every_variable_is_described():
    described = {word for word in (module.__doc__ or "").split() if word.startswith("VIDEOMIND_")}
    assert described == {f"VIDEOMIND_{field.name.upper()}" for field in fields(Settings)}


def test_an_empty_variable_counts_as_unset():
    settings = Settings.from_environment({"VIDEOMIND_BROKER_URL": "", "VIDEOMIND_DEVICE": ""})
    assert settings.broker_url is None
    assert settings.device == "auto"


def test_a_queue_reads_local_files_only_where_it_is_told_to():
    assert Settings.from_environment({}).media_roots is None
    assert Settings.from_environment({"VIDEOMIND_BROKER_URL": "redis://broker"}).media_roots == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEDIA_ROOTS", "videos"),
        ("ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("MAX_BYTES", "many"),
        ("LEASE_SECONDS", "0"),
        ("SWEEP_SECONDS", "inf"),
        ("LOG", "loud"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str):
    with pytest.raises(InvalidSettings, match=f"VIDEOMIND_{name} is '{value}'"):
        Settings.from_environment({f"VIDEOMIND_{name}": value})


def test_other_settings_are_in_force_only_within_using():
    before, other = current(), Settings(database_url="sqlite:///other.db")
    with pytest.raises(KeyError), using(other):
        _fail_under(other)
    assert current() is before


def _fail_under(settings: Settings) -> None:
    assert current() is settings
    raise KeyError
