import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import commands

PATIENCE = 120.0
"""Seconds after which a process that should have ended counts as hung."""


def _ended(done: CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("log", "code"), [("json", 0), ("loud", 3)])
def test_it_does_what_the_installed_command_does(tmp_path: Path, log: str, code: int):
    (tmp_path / ".env").write_text("VIDEOMIND_DEVICE=cpu\nVIDEOMIND_CHEKPOINT=/models\n")
    environment = {**os.environ, "VIDEOMIND_LOG": log}
    installed = subprocess.run(
        [Path(sys.executable).with_name("videomind"), "settings"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    forked = commands.start("settings", environment=environment, folder=tmp_path).ended(PATIENCE)
    assert _ended(forked) == _ended(installed)
    assert forked.returncode == code


def test_it_leaves_the_tests_as_they_are(tmp_path: Path):
    before = dict(os.environ), Path.cwd()
    commands.start("--help", environment={"HOME": "/nowhere"}, folder=tmp_path).ended(PATIENCE)
    assert (dict(os.environ), Path.cwd()) == before


def test_what_is_killed_says_by_what(tmp_path: Path):
    watching = commands.start("watch", tmp_path, "-q", "Who?", "--database", f"sqlite:///{tmp_path}/new.db")
    watching.send_signal(signal.SIGKILL)
    assert watching.ended(PATIENCE).returncode == -signal.SIGKILL
    watching.send_signal(signal.SIGINT)  # nobody is there any more
