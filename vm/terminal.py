"""How the program talks on a terminal: results on stdout, progress and complaints on stderr, exit codes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from vm.errors import CheckpointError, DownloadError, VideoMindError
from vm.render import plain

PROGRAM = "videomind"


def run_app(application: Callable[..., Any], name: str = PROGRAM) -> NoReturn:
    """Run a command line to its exit code; every error raised on purpose is one line on stderr.

    Args:
        application: of Typer, or the command that was made of it.
    """
    try:
        application(prog_name=name)
    except VideoMindError as error:
        complain(error)
        sys.exit(exit_code(error))
    sys.exit(0)


def exit_code(error: VideoMindError) -> int:
    """4 where the checkpoint is to blame, else 3: video, question or another file."""
    return 4 if isinstance(error, CheckpointError | DownloadError) else 3


def complain(error: VideoMindError) -> None:
    """One line on stderr, whatever file names the message holds."""
    remark(str(error))


def remark(text: str) -> None:
    """One line on stderr that is no result, and need not be a complaint."""
    print(f"{PROGRAM}: {plain(text)}", file=sys.stderr)


def prepare_streams() -> None:
    """Make output survive any terminal's encoding, and keep the libraries' warnings off it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    warnings.simplefilter("ignore")


def print_json(text: str) -> None:
    """In UTF-8 whatever the locale. Bytes of a file name that are no text become JSON escapes."""
    typer.echo(text.encode("utf-8", "backslashreplace"))


@contextmanager
def progress() -> Iterator[Callable[[str, float], None]]:
    """A bar on stderr, gone when the work is done; nothing where nobody watches."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)
