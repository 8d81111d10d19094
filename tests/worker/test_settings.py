import os
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from worker.errors import InvalidSettings
from worker.settings import Settings, Told, current, in_file, told, unknown, using

SECRET = "p4ss/w@rd"


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A working directory without a file, and an environment without variables of ours."""
    for name in list(os.environ):
        if name.startswith(("VIDEOMIND_", "XDG_DATA_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """The settings of an environment: `given(DEVICE="cpu")` sets VIDEOMIND_DEVICE."""

    def read(**values: str) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"VIDEOMIND_{name}", value)
        return Settings.from_environment()

    return read


def _write(*lines: str) -> None:
    Path(".env").write_text("\n".join(lines), encoding="utf-8")


def test_nothing_configured_means_sqlite_in_the_users_data_directory_and_no_broker(given, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert given() == Settings(
        database_url="sqlite:////data/videomind/videomind.db", scratch=Path("/data/videomind/scratch")
    )


def test_without_a_data_directory_the_database_is_below_the_home(given):
    assert given().database_url == f"sqlite:///{Path.home()}/.local/share/videomind/videomind.db"


def test_every_variable_is_taken_over(given):
    values = {
        "DATABASE_URL": "postgresql+psycopg://db/videos",
        "BROKER_URL": "redis://broker",
        "RESULT_URL": "redis://broker/1",
        "CHECKPOINT": "/models/checkpoint",
        "BASE": "/models/base",
        "DEVICE": "cuda:1",
        "DTYPE": "bfloat16",
        "MEDIA_ROOTS": "/videos:/more",
        "ALLOWED_NETWORKS": "10.1.0.0/16, fd00::/8",
        "SCRATCH": "/scratch",
        "SCRATCH_BYTES": "1e9",
        "MAX_BYTES": "1000",
        "FETCH_SECONDS": "60",
        "DECODER_BYTES": "2000",
        "FEATURE_CACHE": "/features",
        "FEATURE_CACHE_BYTES": "3e9",
        "LEASE_SECONDS": "10",
        "STALLED_SECONDS": "20",
        "TASK_SECONDS": "100",
        "MAX_ATTEMPTS": "3",
        "SWEEP_SECONDS": "1.5",
        "METRICS_PORT": "9000",
        "WEBHOOK_SECRET": "hush",
        "LOG": "json",
    }
    assert values.keys() == {name.upper() for name in Settings.model_fields}
    settings = given(**values)
    assert {name: getattr(settings, name.lower()) for name in values} == {
        **values,
        "MEDIA_ROOTS": (Path("/videos"), Path("/more")),
        "ALLOWED_NETWORKS": (ip_network("10.1.0.0/16"), ip_network("fd00::/8")),
        "SCRATCH": Path("/scratch"),
        "SCRATCH_BYTES": 10**9,
        "MAX_BYTES": 1000,
        "FETCH_SECONDS": 60.0,
        "DECODER_BYTES": 2000,
        "FEATURE_CACHE": Path("/features"),
        "FEATURE_CACHE_BYTES": 3 * 10**9,
        "LEASE_SECONDS": 10.0,
        "STALLED_SECONDS": 20.0,
        "TASK_SECONDS": 100.0,
        "MAX_ATTEMPTS": 3,
        "SWEEP_SECONDS": 1.5,
        "METRICS_PORT": 9000,
        "WEBHOOK_SECRET": settings.webhook_secret,
    }
    assert settings.webhook_secret is not None
    assert settings.webhook_secret.get_secret_value() == "hush"


def test_every_setting_is_described_in_a_sentence():
    described = [field.description or "" for field in Settings.model_fields.values()]
    assert all(text[:1].isupper() and text.endswith(".") and "\n" not in text for text in described)


def test_an_empty_variable_counts_as_unset(given):
    settings = given(BROKER_URL="", DEVICE="")
    assert settings.broker_url is None
    assert settings.device == "auto"


def test_a_file_in_the_working_directory_is_read_and_the_environment_goes_before_it(given):
    _write("VIDEOMIND_DEVICE=cpu", 'VIDEOMIND_DTYPE="float32" # for now', "OTHER=1", "VIDEOMIND_LOG=")
    settings = given(DEVICE="cuda", DTYPE="")
    assert (settings.device, settings.dtype, settings.log) == ("cuda", "float32", "text")
    assert in_file() == {"VIDEOMIND_DEVICE": "cpu", "VIDEOMIND_DTYPE": "float32"}


def test_settings_made_by_hand_ask_neither_the_environment_nor_the_file(given):
    given(DEVICE="cuda", DATABASE_URL="sqlite:///elsewhere.db")
    _write("VIDEOMIND_DTYPE=float32")
    settings = Settings(database_url="sqlite:///here.db")
    assert (settings.database_url, settings.device, settings.dtype) == ("sqlite:///here.db", "auto", "auto")


def test_a_file_that_is_no_text_is_refused_by_name():
    Path(".env").write_bytes(b"VIDEOMIND_DEVICE=\xff\xfe")
    with pytest.raises(InvalidSettings, match=r"\.env cannot be read"):
        Settings.from_environment()


def test_a_queue_reads_local_files_only_where_it_is_told_to(given):
    assert given().media_roots is None
    assert given(BROKER_URL="redis://broker").media_roots == ()


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("MEDIA_ROOTS", "videos", "give absolute paths"),
        ("ALLOWED_NETWORKS", "10.0.0.1/8", "has host bits set"),
        ("MAX_BYTES", "many", "give a whole number"),
        ("MAX_ATTEMPTS", "1.5", "should be a valid integer"),
        ("LEASE_SECONDS", "0", "should be greater than 0"),
        ("SWEEP_SECONDS", "inf", "should be a finite number"),
        ("METRICS_PORT", "70000", "should be less than or equal to 65535"),
        ("LOG", "loud", "should be 'text' or 'json'"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(given, name: str, value: str, advice: str):
    with pytest.raises(InvalidSettings, match=f"VIDEOMIND_{name} is '{value}': .*{advice}"):
        given(**{name: value})


def test_a_bad_value_in_the_file_is_refused_as_well(given):
    _write("VIDEOMIND_LOG=loud")
    with pytest.raises(InvalidSettings, match="VIDEOMIND_LOG is 'loud'"):
        given()


def test_settings_can_be_changed_but_only_those_there_are():
    settings = Settings(database_url="sqlite://")
    changed = settings.changed(max_attempts=1)
    assert (changed.max_attempts, settings.max_attempts) == (1, 5)
    assert changed.changed(max_attempts=5) == settings
    with pytest.raises(TypeError, match="max_atempts"):
        settings.changed(max_atempts=1)
    with pytest.raises(ValueError, match="frozen"):
        settings.max_attempts = 1


def test_secrets_are_shown_nowhere(given):
    settings = given(
        DATABASE_URL=f"postgresql+psycopg://videomind:{SECRET}@db/videos",
        BROKER_URL=f"redis://:{SECRET}@broker/0",
        RESULT_URL="redis://broker/1?password=hush",
        WEBHOOK_SECRET=SECRET,
    )
    shown = repr(settings) + str(settings) + repr(told())
    assert SECRET not in shown
    assert "hush" not in shown
    assert "videomind:***@db/videos" in shown
    assert settings.database_url.count(SECRET) == 1


def test_all_settings_are_told_with_where_they_come_from(given):
    given(BROKER_URL="redis://broker", MEDIA_ROOTS="/a:/b", ALLOWED_NETWORKS="10.1.0.0/16,fd00::/8")
    _write("VIDEOMIND_DEVICE=cpu", "VIDEOMIND_BROKER_URL=redis://other")
    found = {each.variable: each for each in told()}
    assert list(found) == [f"VIDEOMIND_{name.upper()}" for name in Settings.model_fields]
    assert found["VIDEOMIND_DEVICE"] == Told(
        "VIDEOMIND_DEVICE", "cpu", ".env", Settings.model_fields["device"].description
    )
    assert (found["VIDEOMIND_BROKER_URL"].value, found["VIDEOMIND_BROKER_URL"].origin) == (
        "redis://broker",
        "environment",
    )
    assert found["VIDEOMIND_MEDIA_ROOTS"].value == "/a:/b"
    assert found["VIDEOMIND_ALLOWED_NETWORKS"].value == "10.1.0.0/16,fd00::/8"
    assert found["VIDEOMIND_LEASE_SECONDS"].value == "120"
    assert (found["VIDEOMIND_BASE"].value, found["VIDEOMIND_BASE"].origin) == (None, "default")


def test_variables_that_are_none_of_ours_are_named(given):
    given(CHEKPOINT="/models", DEVICE="cpu")
    _write("VIDEOMIND_NOSUCH=1", "OTHER=1")
    assert unknown() == ["VIDEOMIND_CHEKPOINT", "VIDEOMIND_NOSUCH"]


def test_other_settings_are_in_force_only_within_using():
    before, other = current(), Settings(database_url="sqlite:///other.db")
    with pytest.raises(KeyError), using(other):
        _fail_under(other)
    assert current() is before


def _fail_under(settings: Settings) -> None:
    assert current() is settings
    raise KeyError
