from pathlib import Path

import pytest

from worker.settings import Settings, current, using


def test_nothing_configured_means_sqlite_in_the_users_data_directory_and_no_broker():
    settings = Settings.from_environment({"XDG_DATA_HOME": "/data"})
    assert settings == Settings(database_url="sqlite:////data/videomind/videomind.db")


def test_without_a_data_directory_the_database_is_below_the_home():
    url = Settings.from_environment({}).database_url
    assert url == f"sqlite:///{Path.home()}/.local/share/videomind/videomind.db"


def test_every_variable_is_taken_over():
    environment = {
        "VIDEOMIND_DATABASE_URL": "postgresql+psycopg://db/videos",
        "VIDEOMIND_BROKER_URL": "redis://broker",
        "VIDEOMIND_CHECKPOINT": "/models/checkpoint",
        "VIDEOMIND_BASE": "/models/base",
        "VIDEOMIND_DEVICE": "cuda:1",
        "VIDEOMIND_DTYPE": "bfloat16",
    }
    assert Settings.from_environment(environment) == Settings(*environment.values())


def test_an_empty_variable_counts_as_unset():
    settings = Settings.from_environment({"VIDEOMIND_BROKER_URL": "", "VIDEOMIND_DEVICE": ""})
    assert settings.broker_url is None
    assert settings.device == "auto"


def test_other_settings_are_in_force_only_within_using():
    before, other = current(), Settings(database_url="sqlite:///other.db")
    with pytest.raises(KeyError), using(other):
        _fail_under(other)
    assert current() is before


def _fail_under(settings: Settings) -> None:
    assert current() is settings
    raise KeyError
