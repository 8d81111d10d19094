"""The command `videomind`: the library's commands, and those that need the database.

Exit codes: 0 a result, 1 an unforeseen failure, 2 wrong usage, 3 a bad video, database or other
input, 4 a bad checkpoint or one that cannot be fetched, 130 interrupted. With several videos or
questions the first failure decides.
"""

from __future__ import annotations

import logging
import signal
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from worker.interrupts import interrupts_held_back

if TYPE_CHECKING:
    from typer.core import TyperGroup

# Nothing else is imported here: an interruption is one line from the first moment on.

INTERRUPTED = 130
COMMANDS = (
    "run_cli",
    "queue_cli",
    "watch_cli",
    "browse_cli",
    "source_cli",
    "standing_cli",
    "hits_cli",
    "reindex_cli",
    "schedule_cli",
    "worker_cli",
    "database_cli",
)


def main() -> NoReturn:
    """The entry point: every foreseen end is at most one line on stderr and an exit code."""
    # An ordinary `kill` unwinds as Ctrl-C does, so that claimed analyses are handed back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Failures are shown from their rows; without a handler Python would print the log beside them.
    logging.getLogger("worker").addHandler(logging.NullHandler())
    try:
        with interrupts_held_back():  # what is imported by half fails in odd ways
            commands = mounted()
        _run(commands)
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _interrupted()
        raise


def _run(commands: TyperGroup) -> NoReturn:
    from vm.terminal import run_app

    run_app(commands)


def mounted() -> TyperGroup:
    """The program with all its commands. Some of these ask for the settings at once, which may be wrong."""
    from vm.errors import VideoMindError
    from vm.terminal import complain, exit_code

    try:
        for name in COMMANDS:
            import_module(f"worker.{name}")
        commands = _commands()
        commands.context_settings["default_map"] = _from_file(commands)
    except VideoMindError as error:
        complain(error)
        sys.exit(exit_code(error))
    return commands


@cache
def _commands() -> TyperGroup:
    """All that was imported. Finding out what each command takes needs a tenth of a second."""
    from typer.main import get_group

    from vm.cli import app

    return get_group(app)


def _from_file(commands: TyperGroup) -> dict[str, dict[str, Any]]:
    """What the library's commands take from the environment they take from the file `.env` as well."""
    from worker.settings import in_file

    given = in_file()
    return {
        name: {option.name: given[option.envvar] for option in command.params if option.envvar in given}
        for name, command in commands.commands.items()
    }


def _interrupted() -> int:
    print("videomind: interrupted", file=sys.stderr)
    return INTERRUPTED
