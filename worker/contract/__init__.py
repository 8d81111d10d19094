"""What producers may send: the arguments of the public tasks, checked against their documented schemas.

A producer needs a Celery client and nothing of ours; the schemas beside this file are the contract.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Literal, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

from vm.errors import QuestionError
from vm.moments import Span
from vm.result import Mode
from vm.subtitles import Cue
from worker.errors import InvalidMessage
from worker.jobs import NORMAL, AskSettings, Request, Submission

VERSION = 1
TaskName = Literal["submit", "cancel", "ingest_directory"]
_SHOWN = 200  # characters of a message about what is wrong


@dataclass(frozen=True)
class Cancellation:
    """What is not to be worked on any more, by id."""

    submissions: tuple[int, ...]
    analyses: tuple[int, ...]


@dataclass(frozen=True)
class Folder:
    """A folder whose files are to be submitted, each as `template` says."""

    path: str
    pattern: str
    recursive: bool
    template: Submission


def parse_submit(key: str, arguments: Mapping[str, Any]) -> Submission:
    """The submission that these arguments describe.

    Args:
        key: what the submission is called where the arguments do not say.

    Raises:
        InvalidMessage: they are not as the contract says.
    """
    check("submit", arguments)
    return _submission(arguments.get("key", key), arguments["uri"], arguments)


def parse_cancel(arguments: Mapping[str, Any]) -> Cancellation:
    """Raises InvalidMessage: the arguments are not as the contract says."""
    check("cancel", arguments)
    return Cancellation(tuple(arguments.get("submissions", ())), tuple(arguments.get("analyses", ())))


def parse_ingest_directory(key: str, arguments: Mapping[str, Any]) -> Folder:
    """Raises InvalidMessage: the arguments are not as the contract says."""
    check("ingest_directory", arguments)
    template = _submission(key, arguments["path"], arguments)
    recursive = arguments.get("recursive", False)
    return Folder(arguments["path"], arguments.get("pattern", "*"), recursive, template)


def check(task: TaskName, arguments: Mapping[str, Any]) -> None:
    """Raises InvalidMessage: it says where the arguments are wrong."""
    error = best_match(_validator(task).iter_errors(arguments))
    if error is None:
        return
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    raise InvalidMessage(
        f"videomind.{task}{place and f', {place.lstrip(chr(46))}'}: {error.message[:_SHOWN]}. "
        f"See the contract, version {VERSION}"
    )


def _submission(key: str, uri: str, arguments: Mapping[str, Any]) -> Submission:
    try:
        requests = tuple(dict.fromkeys(map(_request, arguments.get("questions", ()))))
        return Submission(
            key=key,
            uri=uri,
            requests=requests,
            collection=arguments.get("collection"),
            source=arguments.get("source"),
            recorded_at=instant(arguments.get("recorded_at")),
            priority=arguments.get("priority", NORMAL),
            callback_url=arguments.get("callback_url"),
            force=arguments.get("force", False),
        )
    except (QuestionError, ValueError) as error:
        raise InvalidMessage(str(error)) from error


def _request(asked: Mapping[str, Any]) -> Request:
    settings = AskSettings(
        **{name: asked[name] for name in ("window", "min_answer_seconds") if name in asked}
    )
    cues = tuple(_cue(cue) for cue in asked.get("subtitles", ()))
    mode = cast(Mode, asked.get("mode", "auto"))
    return Request.given(asked["question"], tuple(asked.get("options", ())), mode, settings, cues)


def _cue(cue: Mapping[str, Any]) -> Cue:
    if not math.isfinite(cue["end"]):
        raise ValueError(f"a subtitle ends at {cue['end']}: give seconds")
    return Cue(Span(float(cue["start"]), float(cue["end"])), cue["text"])


def instant(text: str | None) -> datetime | None:
    """An ISO 8601 time. Raises ValueError: it is none, or has no zone."""
    if text is None:
        return None
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no time zone: add it, as in 2026-03-01T08:00:00+01:00")
    return found


@cache
def _validator(task: TaskName) -> Draft202012Validator:
    schemas = {name: _schema(name) for name in ("submit", "cancel", "ingest_directory")}
    found = [(schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()]
    registry: Registry[Any] = Registry().with_resources(found)
    return Draft202012Validator(schemas[task], registry=registry)


def _schema(name: str) -> dict[str, Any]:
    text = files("worker.contract").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")
    return cast(dict[str, Any], json.loads(text))
