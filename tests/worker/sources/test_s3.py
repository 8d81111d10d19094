import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceTooLarge, SourceUnavailable
from worker.sources import s3

CONTENT = bytes(range(256)) * 10


class NoCredentials(Exception):
    """As botocore raises it, which is there only where s3fs is."""

    __module__ = "botocore.exceptions"


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("bucket/folder/a b?.mp4", CONTENT)
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def _download(uri, rules, scratch, store, progress=None) -> str:
    with scratch.partial(rules.max_bytes) as partial:
        s3.download(uri, rules, partial, progress, store)
        return partial.sha256


def test_an_object_is_read_in_pieces(rules, scratch, store, monkeypatch):
    monkeypatch.setattr(s3, "CHUNK", 1000)
    told = []
    sha256 = _download(
        "s3://bucket/folder/a b?.mp4", rules, scratch, store, lambda *how_far: told.append(how_far)
    )
    assert sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert told == [(1000, 2560), (2000, 2560), (2560, 2560)]


def test_an_object_that_is_not_there_is_named(rules, scratch, store):
    for uri in ("s3://bucket/missing", "s3://missing/a"):
        with pytest.raises(InvalidSource, match=f"no object {uri}: check"):
            _download(uri, rules, scratch, store)
    with pytest.raises(InvalidSource, match="is a folder"):
        _download("s3://bucket/folder", rules, scratch, store)


def test_too_large_an_object_is_not_read(rules, scratch, store, monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "cat_file", None)
    with pytest.raises(SourceTooLarge):
        _download("s3://bucket/folder/a b?.mp4", replace(rules, max_bytes=2559), scratch, store)


def test_an_object_that_changes_meanwhile_is_left_for_later(rules, scratch, store, monkeypatch):
    monkeypatch.setattr(s3, "CHUNK", 1000)

    def change(*_: object) -> None:
        store.pipe_file("bucket/folder/a b?.mp4", CONTENT[::-1])
        store.store["/bucket/folder/a b?.mp4"].created = datetime(2000, 1, 1, tzinfo=UTC)

    with pytest.raises(SourceUnavailable, match="changed"):
        _download("s3://bucket/folder/a b?.mp4", rules, scratch, store, change)

    def shorten(*_: object) -> None:
        store.pipe_file("bucket/folder/a b?.mp4", b"short")

    with pytest.raises(SourceUnavailable, match="shorter"):
        _download("s3://bucket/folder/a b?.mp4", rules, scratch, store, shorten)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (PermissionError("403"), InvalidSource),
        (OSError("503"), SourceUnavailable),
        (NoCredentials(), SourceUnavailable),
        (ZeroDivisionError("bucket/a is a bug"), ZeroDivisionError),
    ],
)
def test_a_store_that_refuses_or_does_not_answer_is_named(rules, scratch, store, monkeypatch, failure, kind):
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(store, "info", fail)
    with pytest.raises(kind, match="bucket/a"):
        _download("s3://bucket/a", rules, scratch, store)


def test_the_time_is_limited(rules, scratch, store):
    with pytest.raises(SourceUnavailable, match="longer than 0 s"):
        _download("s3://bucket/folder/a b?.mp4", replace(rules, max_seconds=0), scratch, store)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3://bucket",
        "s3://bucket/",
        "s3:///key",
        "s3:bucket/key",
        "s3://a_b@host/c",
        "s3://bucket/a\0",
    ],
)
def test_what_is_no_address_of_an_object_is_refused(rules, scratch, store, uri):
    with pytest.raises(InvalidSource, match="s3://bucket/folder"):
        _download(uri, rules, scratch, store)


def test_one_version_of_an_object_is_not_quietly_another(rules, scratch, store):
    with pytest.raises(InvalidSource, match="version"):
        _download("s3://bucket/a?versionId=3", rules, scratch, store)


def test_without_s3fs_it_is_said_what_to_install(rules, scratch, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    with pytest.raises(SourceForbidden, match=r"videomind-worker\[s3\]"):
        _download("s3://bucket/a", rules, scratch, None)
