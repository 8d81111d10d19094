import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceUnavailable
from worker.sources import local
from worker.sources.rules import SourceRules

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "deeper").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def inside(root: Path) -> SourceRules:
    return SourceRules(roots=(root,))


def _file(path: Path, content: bytes = b"video") -> Path:
    path.write_bytes(content)
    return path


def test_a_file_is_hashed_piece_by_piece(root: Path, inside: SourceRules, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "READ_SIZE", 3)
    path = _file(root / "deeper" / "a.mp4", b"more than one read")
    told: list[tuple[int, int | None]] = []
    found = local.identify(str(path), inside, lambda done, size: told.append((done, size)))
    assert found == (path, hashlib.sha256(b"more than one read").hexdigest(), 18)
    assert told == [(done, 18) for done in (3, 6, 9, 12, 15, 18)]


def test_only_what_is_in_a_root_is_read(root: Path, inside: SourceRules):
    outside = _file(root.parent / "outside.mp4")
    beside = root.with_name("root2")
    beside.mkdir()
    for path in (outside, root / ".." / "outside.mp4", _file(beside / "a.mp4"), root / ".." / "missing.mp4"):
        with pytest.raises(SourceForbidden, match="VIDEOMIND_MEDIA_ROOTS"):
            local.identify(str(path), inside)
    assert local.identify(str(outside), SourceRules(roots=None))[0] == outside
    with pytest.raises(SourceForbidden, match="VIDEOMIND_MEDIA_ROOTS"):
        local.identify(str(_file(root / "a.mp4")), SourceRules(roots=()))


def test_a_link_is_where_it_leads(root: Path, inside: SourceRules):
    outside = _file(root.parent / "outside.mp4")
    (root / "out.mp4").symlink_to(outside)
    (root / "folder").symlink_to(root.parent)
    (root / "in.mp4").symlink_to(_file(root / "deeper" / "a.mp4"))
    for name in ("out.mp4", "folder/outside.mp4", "folder/missing.mp4"):
        with pytest.raises(SourceForbidden):
            local.identify(str(root / name), inside)
    assert local.identify(str(root / "in.mp4"), inside)[0] == root / "deeper" / "a.mp4"
    linked = root.with_name("linked")
    linked.symlink_to(root)
    assert (
        local.identify(str(linked / "in.mp4"), SourceRules(roots=(linked,)))[0] == root / "deeper" / "a.mp4"
    )


def test_what_is_no_file_with_content_is_refused_by_name(root: Path, inside: SourceRules):
    (root / "empty.mp4").touch()
    os.mkfifo(root / "pipe.mp4")
    (root / "loop.mp4").symlink_to("loop.mp4")
    long = "x" * 300
    for name in (
        "empty.mp4",
        "pipe.mp4",
        "loop.mp4",
        "missing.mp4",
        "deeper",
        "empty.mp4/a",
        long,
        "a\0.mp4",
    ):
        with pytest.raises(InvalidSource, match=name.split("\0")[0]):
            local.identify(str(root / name), inside)
    with pytest.raises(InvalidSource, match="regular"):
        local.identify("/dev/zero", SourceRules(roots=None))
    for path in ("relative.mp4", "", "\udfff/a"):
        with pytest.raises(InvalidSource, match="absolute"):
            local.identify(path, inside)
    with pytest.raises(InvalidSource, match="not the path"):
        local.identify("/\ud800", inside)


@pytest.fixture
def ordinary() -> Iterator[None]:
    """Root, who may read everything, is somebody else meanwhile."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(user)


@pytest.fixture
def open_folder(ordinary: None) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)


def test_a_file_that_may_not_be_read_is_refused(open_folder: Path):
    path = _file(open_folder / "secret.mp4")
    rules = SourceRules(roots=(open_folder,))
    assert local.identify(str(path), rules)[2] == 5
    path.chmod(0)
    with pytest.raises(InvalidSource, match="permission"):
        local.identify(str(path), rules)


def _replace_file(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "outside.mp4")


def _replace_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("away"))
    path.parent.symlink_to("away")


@pytest.mark.parametrize(
    ("change", "message"),
    [(_replace_file, "symbolic"), (_replace_folder, "replaced"), (os.mkfifo, "replaced")],
)
def test_a_file_that_is_replaced_while_it_is_opened_is_refused(
    root: Path,
    inside: SourceRules,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    message: str,
):
    _file(root.parent / "outside.mp4")
    path = _file(root / "deeper" / "a.mp4")
    really = os.open

    def late(name: Path, flags: int, *more: int) -> int:
        if change is os.mkfifo:
            path.unlink()
        change(path)
        return really(name, flags, *more)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(InvalidSource, match=message):
        local.identify(str(path), inside)


def test_a_file_that_still_grows_is_left_for_later(root: Path, inside: SourceRules):
    path = _file(root / "a.mp4")

    def grow(*_: object) -> None:
        with path.open("ab") as file:
            file.write(b"more")
        os.utime(path, (0, 0))

    with pytest.raises(SourceUnavailable, match="still being written"):
        local.identify(str(path), inside, grow)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///a/b.mp4", "/a/b.mp4"),
        ("file:/a/b.mp4", "/a/b.mp4"),
        ("FILE://localhost/a", "/a"),
        ("file:///a%20b%3Fc%23d%25.mp4", "/a b?c#d%.mp4"),
        ("file:///Straße.mp4", "/Straße.mp4"),
        ("file:///%FF", os.fsdecode(b"/\xff")),
        ("file:///a%00b", "/a\0b"),
        ("file:///a\nb", "/a\nb"),
        ("file:relative", "relative"),
        ("file://", ""),
    ],
)
def test_a_uri_names_a_path(uri: str, path: str):
    assert local.path_of(uri) == path


@pytest.mark.parametrize(
    "uri", ["file://server/a", "file://evil.test\\/a", "file:///a?b", "file:///a#b", "file:///\udc00"]
)
def test_a_uri_of_anything_else_is_refused(uri: str):
    with pytest.raises(InvalidSource):
        local.path_of(uri)


def test_a_name_is_shown_as_text_whatever_it_is():
    assert local.named("/Straße 1.mp4") == "/Straße 1.mp4"
    assert local.named(os.fsdecode(b"/\xff\n\0.mp4")) == "/\\udcff\\n\\x00.mp4"


@pytest.mark.parametrize(
    "name", ["a b.mp4", "50%.mp4", "a?b#c.mp4", "Straße.mp4", os.fsdecode(b"\xff\xfe.mp4")]
)
def test_an_uri_leads_back_to_the_file_whatever_its_name(tmp_path: Path, name: str):
    path = tmp_path / name
    uri = path.as_uri()
    assert uri.isascii()
    assert local.local_path(uri) == path
    assert local.local_path(str(path)) == path
