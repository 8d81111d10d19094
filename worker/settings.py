"""What the environment and a file `.env` in the working directory say, as one frozen object.

Every field is a variable, VIDEOMIND_ and its name in capitals, and is described where it is defined; the
command `videomind settings` shows all of them with their values and where these come from. The environment
goes before the file, and an empty variable counts as unset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, SettingsConfigDict

from worker.errors import InvalidSettings
from worker.masking import HIDDEN, masked

GB = 10**9
FILE = ".env"
PREFIX = "VIDEOMIND_"
Network = IPv4Network | IPv6Network
Origin = Literal["environment", ".env", "default"]


def default_database_url() -> str:
    """The embedded database: one SQLite file in the user's data directory."""
    return f"sqlite:///{data_folder() / 'videomind.db'}"


def data_folder() -> Path:
    """Where this program keeps what belongs to the user."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "videomind"


def _number(value: Any) -> Any:
    """1e9 is a whole number as well."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError("give a whole number") from error


def _paths(value: Any) -> Any:
    return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


def _absolute(paths: tuple[Path, ...] | None) -> tuple[Path, ...] | None:
    if not all(path.is_absolute() for path in paths or ()):
        raise ValueError("give absolute paths")
    return paths


def _networks(value: Any) -> Any:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(ip_network(part.strip()) if isinstance(part, str) else part for part in parts if part)


Count = Annotated[int, BeforeValidator(_number), Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Roots = Annotated[tuple[Path, ...] | None, BeforeValidator(_paths), AfterValidator(_absolute)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


class Settings(BaseModel):
    """Sizes in bytes, times in seconds. Made by hand, it asks neither the environment nor a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    database_url: str = Field(
        default_factory=default_database_url,
        description="The database, an SQLAlchemy URL. Unset: SQLite, videomind/videomind.db in the user's "
        "data directory ($XDG_DATA_HOME, or ~/.local/share).",
    )
    broker_url: str | None = Field(
        None, description="A Celery broker. Unset: the embedded default, everything in one process."
    )
    result_url: str | None = Field(
        None, description="A Celery result backend, for producers who wait for ids. Unset: none."
    )
    checkpoint: str | None = Field(None, description="The checkpoint's folder. Unset: the bundled one.")
    base: str | None = Field(
        None, description="The base model's folder or hub name. Unset: where the checkpoint says."
    )
    device: str = Field("auto", description="What the model runs on: auto, cpu, cuda or cuda:N.")
    dtype: str = Field("auto", description="What it calculates in: auto, float32, bfloat16 or float16.")
    media_roots: Roots = Field(
        None,
        description='Folders that local videos may be in, separated by ":". Unset: with a broker none, '
        "without one any that the user can read.",
    )
    allowed_networks: Networks = Field(
        (), description='Private networks that videos may be fetched from, as 10.1.0.0/16, by ",".'
    )
    scratch: Path = Field(
        default_factory=lambda: data_folder() / "scratch",
        description="The folder for fetched videos. Unset: videomind/scratch in the data directory.",
    )
    scratch_bytes: Count = Field(50 * GB, description="How much the scratch folder may hold.")
    max_bytes: Count = Field(10 * GB, description="The largest video that is fetched.")
    fetch_seconds: Seconds = Field(3600.0, description="The longest that fetching one may take.")
    decoder_bytes: Count = Field(4 * GB, description="Memory of the process that reads a video.")
    feature_cache: Path | None = Field(
        None, description="A folder in which what the model sees of videos is kept. Unset: it is not kept."
    )
    feature_cache_bytes: Count = Field(20 * GB, description="How much that folder may hold.")
    lease_seconds: Seconds = Field(120.0, description="How long a silent worker keeps its work.")
    stalled_seconds: Seconds = Field(1800.0, description="How long an analysis may make no progress.")
    task_seconds: Seconds = Field(
        6 * 3600.0, description="How long all questions on one video may take together."
    )
    max_attempts: Count = Field(5, description="How often work is tried before it counts as failed.")
    sweep_seconds: Seconds = Field(30.0, description="How often the sweep looks for lost work.")
    metrics_port: Annotated[Count, Field(le=65535)] | None = Field(
        None, description="The port at which a worker shows Prometheus metrics. Unset: none."
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="What is sent to webhooks is signed with it. Unset: nothing is sent to any.",
    )
    log: Literal["text", "json"] = Field("text", description="How a worker's log is written: text or json.")

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    def changed(self, **values: Any) -> Settings:
        """The same with other values for some of them, which are not checked."""
        if unknown := values.keys() - Settings.model_fields.keys():
            raise TypeError(f"no such setting: {', '.join(unknown)}")
        return self.model_copy(update=values)

    @classmethod
    def from_environment(cls) -> Settings:
        """What the environment and the file say.

        Raises:
            InvalidSettings: a variable's value, or the file, cannot be used.
        """
        given = _given()
        found = {**given[".env"], **given["environment"]}
        try:
            settings = cls(**found)
        except ValidationError as error:
            raise _refusal(error, found) from error
        if settings.broker_url and settings.media_roots is None:
            return settings.changed(media_roots=())
        return settings

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, masked(value) if isinstance(value, str) else value


class _Environment(Settings, BaseSettings):
    """How the variables are called, and where they are looked for."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=FILE,
        env_ignore_empty=True,
        enable_decoding=False,
        dotenv_filtering="only_existing",
    )


@dataclass(frozen=True)
class Told:
    """One setting, for people: its value as text, without what is secret in it."""

    variable: str
    value: str | None
    origin: Origin
    description: str


def told() -> list[Told]:
    """All settings, in their order. Raises InvalidSettings: a value cannot be used."""
    settings, given = Settings.from_environment(), _given()
    found = []
    for name, field in Settings.model_fields.items():
        origin = next((origin for origin, part in given.items() if name in part), "default")
        value = _text(getattr(settings, name))
        found.append(Told(_variable(name), value, cast(Origin, origin), field.description or ""))
    return found


def unknown() -> list[str]:
    """Variables that are called like settings and are none: a slip of the pen, or another version's."""
    names = {name.upper() for source in _sources().values() for name in source.env_vars}
    known = map(_variable, Settings.model_fields)
    return sorted({name for name in names if name.startswith(PREFIX)}.difference(known))


def in_file() -> dict[str, str]:
    """What the file sets, by variable; the environment goes before it."""
    return {_variable(name): value for name, value in _given()[".env"].items()}


def _text(value: Any) -> str | None:
    """As it would be written in the environment."""
    if value is None:
        return None
    if isinstance(value, tuple):
        separator = "," if any(isinstance(part, Network) for part in value) else os.pathsep
        return separator.join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else masked(str(value))


def _sources() -> Mapping[Origin, EnvSettingsSource]:
    """The first to be believed first."""
    try:
        return {"environment": EnvSettingsSource(_Environment), ".env": DotEnvSettingsSource(_Environment)}
    except (OSError, UnicodeError) as error:
        raise InvalidSettings(f"{FILE} cannot be read: {error}. Write it in UTF-8") from error


def _given() -> Mapping[Origin, Mapping[str, Any]]:
    return {origin: source() for origin, source in _sources().items()}


def _refusal(error: ValidationError, found: Mapping[str, Any]) -> InvalidSettings:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    value = HIDDEN if name.endswith("_secret") else masked(str(found[name]))
    advice = str(first.get("ctx", {}).get("error", first["msg"]))
    return InvalidSettings(f"{_variable(name)} is {value!r}: {advice[:1].lower()}{advice[1:]}")


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def current() -> Settings:
    """The settings in force: those of `using`, else the environment's, read once per process."""
    return _override.get() or _environment()


@contextmanager
def using(settings: Settings) -> Iterator[None]:
    """Other settings than the environment's, for tasks run in this process; restored on leaving."""
    token = _override.set(settings)
    try:
        yield
    finally:
        _override.reset(token)


_override: ContextVar[Settings | None] = ContextVar("settings", default=None)


@cache
def _environment() -> Settings:
    return Settings.from_environment()
