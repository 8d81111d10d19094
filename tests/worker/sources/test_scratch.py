import fcntl
import hashlib
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.errors import SourceTooLarge, SourceUnavailable
from worker.sources import scratch as module
from worker.sources.scratch import Scratch


def _store(scratch: Scratch, content: bytes, limit: int = 1 << 20) -> str:
    with scratch.partial(limit) as partial:
        partial.write(content)
        with scratch.keep(partial) as path:
            assert path.read_bytes() == content
            return path.name


def _names(scratch: Scratch) -> set[str]:
    """All files in scratch space."""
    return {path.name for path in scratch.folder.rglob("*") if path.is_file()} - {"lock"}


def _used(scratch: Scratch) -> int:
    with scratch._locked():  # else a file that is moved meanwhile is counted twice
        return sum(path.stat().st_size for path in scratch.folder.rglob("*") if path.is_file())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    """Room for 100 bytes, claimed byte by byte."""
    monkeypatch.setattr(module, "STEP", 1)
    return Scratch(tmp_path / "small", 100)


def test_a_file_is_known_by_its_content(scratch: Scratch):
    name = _store(scratch, b"video")
    assert name == hashlib.sha256(b"video").hexdigest()
    with scratch.hold(name) as path:
        assert path is not None
        assert path.read_bytes() == b"video"
    with scratch.hold("0" * 64) as path:
        assert path is None


def test_a_folder_that_somebody_took_away_is_made_again(scratch: Scratch):
    shutil.rmtree(scratch.folder)
    with scratch.hold("0" * 64) as path:
        assert path is None
    name = _store(scratch, b"video")
    with scratch.hold(name) as path:
        assert path is not None


def test_the_same_content_is_kept_once(scratch: Scratch):
    name = _store(scratch, b"video")
    with scratch.hold(name) as held:
        assert held is not None
        before = held.stat().st_ino
        assert _store(scratch, b"video") == name
        assert held.stat().st_ino == before
    assert _names(scratch) == {name}


def test_a_partial_file_goes_unless_it_is_kept(scratch: Scratch):
    with scratch.partial(100) as partial:
        partial.write(b"half a vid")
        assert len(_names(scratch)) == 1
    assert not _names(scratch)


def test_begun_anew_a_file_has_only_the_new_bytes(scratch: Scratch):
    with scratch.partial(100) as partial:
        partial.write(b"something longer")
        partial.restart()
        partial.write(b"short")
        with scratch.keep(partial) as path:
            assert path.read_bytes() == b"short"
            assert path.name == hashlib.sha256(b"short").hexdigest()


def test_only_the_owner_may_look(tmp_path: Path):
    before = os.umask(0)
    try:
        scratch = Scratch(tmp_path / "open", 100)
        _store(scratch, b"video")
        with scratch.partial(100):
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in scratch.folder.rglob("*")}
    finally:
        os.umask(before)
    assert stat.S_IMODE(scratch.folder.stat().st_mode) == 0o700
    assert len(found) == 5
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in found.items())


@pytest.mark.parametrize("name", ["", "..", "../" * 20 + "etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_nothing_but_a_hash_is_ever_a_name(scratch: Scratch, name: str):
    with pytest.raises(ValueError, match="not a sha256"), scratch.hold(name):
        pass


def test_the_file_not_used_for_longest_makes_room(small: Scratch):
    first, second = _store(small, b"1" * 40), _store(small, b"2" * 40)
    for age, name in ((9, first), (8, second)):
        os.utime(small.folder / "whole" / name, (time.time() - age, time.time() - age))
    with small.hold(first):
        pass
    third = _store(small, b"3" * 40)
    assert _names(small) == {first, third}
    _store(small, b"4" * 100)
    assert _used(small) == 100


def test_a_file_in_use_stays_and_the_others_wait(small: Scratch):
    name = _store(small, b"1" * 60)
    with small.hold(name) as path:
        with pytest.raises(SourceUnavailable, match="files in use"):
            _store(small, b"2" * 60)
        assert path is not None
        assert path.exists()
        assert _names(small) == {name}
    _store(small, b"2" * 60)
    assert name not in _names(small)


def test_what_is_announced_is_spoken_for(small: Scratch):
    with small.partial(100) as partial:
        partial.reserve(70)
        with pytest.raises(SourceUnavailable, match="files in use"):
            _store(small, b"2" * 40)
        partial.write(b"1" * 70)
        with small.keep(partial) as path:
            assert path.stat().st_size == 70


def test_what_was_announced_but_not_sent_is_given_back(small: Scratch):
    with small.partial(100) as partial:
        partial.reserve(90)
        partial.write(b"short")
        with small.keep(partial) as path:
            assert path.read_bytes() == b"short"
    assert _used(small) == 5


def test_a_file_of_unknown_size_asks_for_room_in_steps(small: Scratch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "STEP", 10)
    old = _store(small, b"0" * 50)
    with small.partial(100) as partial:
        for _ in range(4):
            partial.write(b"1" * 10)
        assert old in _names(small)
        partial.write(b"1" * 10)
        assert _used(small) <= 100
        assert old not in _names(small)


def test_more_than_a_source_or_the_space_may_have_is_too_large(small: Scratch):
    for limit, size in ((50, 51), (1000, 101)):
        with small.partial(limit) as partial:
            partial.write(b"1")
            with pytest.raises(SourceTooLarge):
                partial.write(b"2" * (size - 1))
            with pytest.raises(SourceTooLarge):
                partial.reserve(size)


def test_the_bound_holds_for_many_at_once(small: Scratch):
    deadline = time.monotonic() + 60

    def store(number: int) -> bool:
        while time.monotonic() < deadline:
            try:
                _store(small, bytes([number]) * 30)
                return True
            except SourceUnavailable:
                time.sleep(0.001)  # as all of it is in use by others: again later
            finally:
                assert _used(small) <= 100
        return False

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(store, range(60)))


def test_a_smaller_space_is_made_from_a_larger_one(scratch: Scratch):
    for number in range(5):
        _store(scratch, bytes([number]) * 30)
    assert _used(Scratch(scratch.folder, 70)) == 60


CRASHING = """
import sys, time
from pathlib import Path
from worker.sources.scratch import Scratch

scratch = Scratch(Path(sys.argv[1]), 1 << 20)
with scratch.partial(1000) as whole:
    whole.write(b"in use")
    with scratch.keep(whole), scratch.partial(1000) as partial:
        partial.reserve(1000)
        partial.write(b"half")
        print("ready", flush=True)
        time.sleep(60)
"""


def test_processes_share_the_space_and_what_a_killed_one_leaves_is_cleaned(scratch: Scratch):
    command = [sys.executable, "-c", CRASHING, str(scratch.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            Scratch(scratch.folder, 1)
            assert len(_names(scratch)) == 2, "both are in use by the other process"
        finally:
            process.send_signal(signal.SIGKILL)
    assert len(_names(scratch)) == 2
    Scratch(scratch.folder, 100)
    assert _names(scratch) == {hashlib.sha256(b"in use").hexdigest()}
    Scratch(scratch.folder, 1)
    assert not _names(scratch)


def test_a_file_removed_before_it_is_locked_is_not_there(scratch: Scratch, monkeypatch: pytest.MonkeyPatch):
    name = _store(scratch, b"video")
    lock = fcntl.flock

    def removing(file: object, how: int) -> None:
        (scratch.folder / "whole" / name).unlink(missing_ok=True)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    with scratch.hold(name) as path:
        assert path is None


def test_nobody_waits_for_ever_for_a_stopped_process(scratch: Scratch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    with open(scratch.folder / "lock", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SourceUnavailable, match="is it stopped"), scratch.partial(100):
            pass


def test_a_disk_that_takes_no_more_is_not_the_sources_fault(scratch: Scratch):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with scratch.partial(100) as partial:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(SourceUnavailable, match="Make room"):
                partial.write(b"x" * 20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(SourceUnavailable, match="file/scratch"):
        Scratch(tmp_path / "file" / "scratch", 100)
