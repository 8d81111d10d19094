"""The command `videomind`: the library's commands, and those that need the database.

Exit codes: 0 a result, 1 an unforeseen failure, 2 wrong usage, 3 a bad video, database or other
input, 4 a bad checkpoint or one that cannot be fetched, 130 interrupted. With several videos or
questions the first failure decides.
"""

from __future__ import annotations

import logging
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import typer

from vm.cli import app
from vm.errors import VideoMindError
from vm.terminal import PROGRAM, complain, exit_code, run_app
from worker.settings import in_file

INTERRUPTED = 130
COMMANDS = (
    "run_cli",
    "queue_cli",
    "watch_cli",
    "browse_cli",
    "standing_cli",
    "hits_cli",
    "reindex_cli",
    "worker_cli",
    "database_cli",
)


def main() -> NoReturn:
    """The entry point: every foreseen end is at most one line on stderr and an exit code."""
    # An ordinary `kill` unwinds as Ctrl-C does, so that claimed analyses are handed back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Failures are shown from their rows; without a handler Python would print the log beside them.
    logging.getLogger("worker").addHandler(logging.NullHandler())
    _mount()
    try:
        run_app(app)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print(f"{PROGRAM}: interrupted", file=sys.stderr)
        raise


def _mount() -> None:
    """Adds the commands. Some of what they import asks for the settings, which may be wrong."""
    try:
        for name in COMMANDS:
            import_module(f"worker.{name}")
        app.info.context_settings = {"default_map": _from_file()}
    except VideoMindError as error:
        complain(error)
        sys.exit(exit_code(error))


def _from_file() -> dict[str, dict[str, Any]]:
    """What the library's commands take from the environment they take from the file `.env` as well."""
    given = in_file()
    commands = getattr(typer.main.get_command(app), "commands", {})
    return {
        name: {option.name: given[option.envvar] for option in command.params if option.envvar in given}
        for name, command in commands.items()
    }
