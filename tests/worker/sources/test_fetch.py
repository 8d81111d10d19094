import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from vm.errors import InvalidSource
from worker.errors import SourceForbidden, SourceTooLarge
from worker.sources import s3
from worker.sources.fetch import Fetched, fetch
from worker.sources.rules import SourceRules
from worker.sources.scratch import Scratch

VIDEO = b"video"
SHA256 = hashlib.sha256(VIDEO).hexdigest()


@pytest.fixture
def local(tmp_path: Path, rules: SourceRules) -> SourceRules:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a b.mp4").write_bytes(VIDEO)
    return replace(rules, roots=(tmp_path / "media",))


def test_a_local_file_is_read_in_place(tmp_path: Path, local: SourceRules, scratch: Scratch):
    path = tmp_path / "media" / "a b.mp4"
    (tmp_path / "media" / "link.mp4").symlink_to(path)
    for uri, name in (
        (path.as_uri(), "a b.mp4"),
        (str(path), "a b.mp4"),
        (f"{path.parent}/link.mp4", "link.mp4"),
    ):
        with fetch(uri, local, scratch, sha256=SHA256) as fetched:
            assert fetched == Fetched(path, SHA256, 5, name)
    with pytest.raises(SourceForbidden), fetch(str(path), replace(local, roots=()), scratch):
        pass


def test_a_download_is_there_while_it_is_needed_and_is_not_fetched_again(server, rules, scratch, send):
    server.answers["/x/a%20b.mp4"] = send(VIDEO)
    uri = server.url("/x/a%20b.mp4?token=1")
    with fetch(uri, rules, scratch) as fetched:
        assert fetched.path.read_bytes() == VIDEO
        assert fetched == Fetched(fetched.path, SHA256, 5, "a b.mp4")
        Scratch(scratch.folder, 1)
        assert fetched.path.exists()
    with fetch(uri, rules, scratch, sha256=SHA256) as again:
        assert again == fetched
    assert len(server.requests) == 1
    Scratch(scratch.folder, 1)
    with fetch(uri, rules, scratch, sha256=SHA256) as again:
        assert again == fetched
    assert len(server.requests) == 2


def test_other_content_than_expected_is_refused(server, local, scratch, send, tmp_path):
    server.answers["/a"] = send(b"other")
    (tmp_path / "media" / "a b.mp4").write_bytes(b"other")
    for uri in (server.url("/a"), str(tmp_path / "media" / "a b.mp4")):
        with pytest.raises(InvalidSource, match="other content"), fetch(uri, local, scratch, sha256=SHA256):
            pass
    assert not list((scratch.folder / "whole").iterdir())


def test_an_empty_source_is_refused(server, rules, scratch, send):
    server.answers["/a"] = send(b"")
    with pytest.raises(InvalidSource, match="empty"), fetch(server.url("/a"), rules, scratch):
        pass


def test_a_source_larger_than_scratch_is_refused(server, rules, tmp_path, send):
    server.answers["/a"] = send(VIDEO)
    with pytest.raises(SourceTooLarge), fetch(server.url("/a"), rules, Scratch(tmp_path / "tiny", 4)):
        pass


def test_an_object_is_downloaded_too(rules, scratch, monkeypatch):
    monkeypatch.setattr(s3, "download", lambda uri, rules, partial, progress: partial.write(VIDEO))
    with fetch("s3://bucket/folder/a%20b.mp4", rules, scratch) as fetched:
        assert fetched.name == "a%20b.mp4"
        assert fetched.sha256 == SHA256


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", ""),
        ("/a/", ""),
        ("/a;b=c.mp4#x/y", "a;b=c.mp4"),
        ("/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("/%00%0a%FF.mp4", "\\x00\\n\\ufffd.mp4"),
        ("/" + "x" * 500, "x" * 255),
    ],
)
def test_the_name_is_harmless(server, rules, scratch, send, path, name):
    server.answers[path.partition("#")[0]] = send(VIDEO)
    with fetch(server.url(path), rules, scratch) as fetched:
        assert fetched.name == name
        assert fetched.path.name == SHA256


@pytest.mark.parametrize(
    "uri", ["ftp://host/a", "rtsp://camera/1", "data:video/mp4,x", "concat:/a|/b", "javascript:1"]
)
def test_other_kinds_of_source_are_refused(rules, scratch, uri):
    with pytest.raises(SourceForbidden, match=r"http\(s\)|https:"), fetch(uri, rules, scratch):
        pass


@pytest.mark.parametrize(
    "uri", ["", "a.mp4", "./a.mp4", "../a", " /a", "\0", "file:a.mp4", "file://host/a", "s3://"]
)
def test_what_names_nothing_is_refused(local, scratch, uri):
    with pytest.raises(InvalidSource), fetch(uri, local, scratch):
        pass


@pytest.mark.parametrize("sha256", ["", "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_an_expected_hash_must_be_one(rules, scratch, sha256):
    with pytest.raises(InvalidSource, match="sha256"), fetch("http://host/a", rules, scratch, sha256=sha256):
        pass
