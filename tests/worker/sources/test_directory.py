import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vm.errors import InvalidSource
from worker.errors import SourceForbidden
from worker.sources.directory import Sighting, finished_files
from worker.sources.rules import SourceRules


@dataclass
class Watch:
    """A folder that is looked at every few seconds of a clock of its own."""

    folder: Path
    now: float = 1000.0
    seen: dict[Path, Sighting] = field(default_factory=dict)

    def look(self, after: float = 10.0, pattern: str = "*.mp4", **how: object) -> list[str]:
        self.now += after
        rules = SourceRules(roots=(self.folder,))
        scan = finished_files(self.folder, pattern, rules, 10.0, self.seen, clock=lambda: self.now, **how)
        self.seen = dict(scan.seen)
        return [path.relative_to(self.folder).as_posix() for path in scan.finished]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    (tmp_path / "cameras").mkdir()
    return Watch(tmp_path / "cameras")


@pytest.fixture
def write(watch: Watch) -> Callable[..., Path]:
    def make(name: str, content: bytes = b"video", mode: str = "wb") -> Path:
        path = watch.folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open(mode) as file:
            file.write(content)
        return path

    return make


def test_a_file_is_reported_once_it_has_settled_and_once_only(watch, write):
    write("b.mp4")
    write("a.mp4")
    assert watch.look() == []
    assert watch.look(after=9) == []
    write("c.mp4")
    assert watch.look(after=1) == ["a.mp4", "b.mp4"]
    assert watch.look() == ["c.mp4"]
    assert watch.look() == []


def test_a_file_that_grows_is_not_finished(watch, write):
    write("a.mp4")
    for _ in range(3):
        assert watch.look() == []
        write("a.mp4", b"more", "ab")
    assert watch.look() == []
    assert watch.look() == ["a.mp4"]


def test_a_copy_that_sets_old_times_and_its_full_size_at_once_is_not_finished(watch, write):
    original = write("original.mkv", b"x" * 100)
    os.utime(original, (1, 1))
    shutil.copy2(original, watch.folder / "a.mp4")
    assert watch.look() == []
    with (watch.folder / "a.mp4").open("r+b") as file:
        file.write(b"y" * 50)
    os.utime(watch.folder / "a.mp4", (1, 1))
    assert watch.look() == [], "neither size nor date tells, but the entry changed"
    assert watch.look() == ["a.mp4"]


def test_a_file_that_changes_later_is_reported_again_but_not_for_its_permissions(watch, write):
    path = write("a.mp4")
    watch.look()
    assert watch.look() == ["a.mp4"]
    path.chmod(0o600)
    os.link(path, watch.folder / "backup")
    assert watch.look() == watch.look() == []
    write("a.mp4", b"other")
    os.utime(path, (5, 5))
    assert watch.look() == []
    assert watch.look() == ["a.mp4"]
    path.unlink()
    assert watch.look() == []
    assert not watch.seen


def test_only_files_of_the_pattern_with_ordinary_names_and_content_are_meant(watch, write):
    for name in ("A.MP4", "a.mkv", ".hidden.mp4", "~a.mp4", "a.mp4~", "a.mp4.part", "b.tmp.mp4", "c.mp4.tmp"):
        write(name)
    write("empty.mp4", b"")
    (watch.folder / "folder.mp4").mkdir()
    os.mkfifo(watch.folder / "pipe.mp4")
    watch.look(pattern="*.mp4")
    assert watch.look(pattern="*.mp4") == ["A.MP4", "b.tmp.mp4"]
    watch.look(pattern="*")
    assert watch.look(pattern="*") == ["a.mkv"]


def test_folders_below_are_looked_into_only_if_asked_and_never_hidden_ones(watch, write):
    for name in ("a.mp4", "day/b.mp4", ".git/c.mp4"):
        write(name)
    (watch.folder / "again").symlink_to(watch.folder)
    watch.look()
    assert watch.look() == ["a.mp4"]
    watch.look(recursive=True)
    assert watch.look(recursive=True) == ["day/b.mp4"]


def test_links_are_followed_only_inside(watch, write, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    write("real.mp4")
    for name, target in (
        ("in", "real.mp4"),
        ("out", "../secret.mp4"),
        ("gone", "nothing"),
        ("loop", "loop.mp4"),
    ):
        (watch.folder / f"{name}.mp4").symlink_to(target)
    watch.look()
    assert watch.look() == ["in.mp4", "real.mp4"]


def test_many_files_come_some_at_a_time(watch, write):
    for number in range(5):
        write(f"{number}.mp4")
    watch.look()
    assert watch.look(limit=2) == ["0.mp4", "1.mp4"]
    assert watch.look(after=0, limit=2) == ["2.mp4", "3.mp4"]
    assert watch.look(after=0, limit=2) == ["4.mp4"]


def test_names_of_any_bytes_are_found(watch, write):
    name = os.fsdecode(b"\xff.mp4")
    write(name)
    watch.look()
    assert watch.look() == [name]


def test_one_look_never_tells(watch, write):
    write("a.mp4")
    rules = SourceRules(roots=(watch.folder,))
    first = finished_files(watch.folder, "*", rules, 0, {})
    assert first.finished == ()
    assert finished_files(watch.folder, "*", rules, 0, first.seen).finished == (watch.folder / "a.mp4",)


def test_a_folder_that_is_none_or_not_ours_is_refused(watch, write):
    inside = SourceRules(roots=(watch.folder,))
    for folder in (watch.folder / "missing", write("a.mp4")):
        with pytest.raises(InvalidSource, match="Check the folder"):
            finished_files(folder, "*", inside, 1, {})
    for rules, folder in ((inside, watch.folder / ".."), (SourceRules(roots=()), watch.folder)):
        with pytest.raises(SourceForbidden):
            finished_files(folder, "*", rules, 1, {})
