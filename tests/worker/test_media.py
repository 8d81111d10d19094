import hashlib
import os
from pathlib import Path

import pytest

from vm.errors import InvalidSource
from worker import media


def test_a_video_is_known_by_its_content_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(media, "READ_SIZE", 3)
    content = b"more than one read"
    (tmp_path / "a.mp4").write_bytes(content)
    (tmp_path / "b.mp4").write_bytes(content)
    a, b = media.identify(tmp_path / "a.mp4"), media.identify(tmp_path / "b.mp4")
    assert a.sha256 == b.sha256 == hashlib.sha256(content).hexdigest()
    assert a.uri != b.uri


@pytest.mark.parametrize(
    "name", ["a b.mp4", "50%.mp4", "a?b#c.mp4", "Straße.mp4", os.fsdecode(b"\xff\xfe.mp4")]
)
def test_an_uri_leads_back_to_the_file_whatever_its_name(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(b"x")
    uri = media.identify(path).uri
    assert uri.isascii()
    assert media.local_path(uri) == path


def test_a_relative_path_and_a_link_give_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "real.mp4").write_bytes(b"x")
    (tmp_path / "link.mp4").symlink_to("real.mp4")
    monkeypatch.chdir(tmp_path)
    assert media.local_path(media.identify(Path("link.mp4")).uri) == tmp_path / "real.mp4"


def test_what_is_no_file_with_content_is_refused_by_name(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    for name in ("empty.mp4", "folder.mp4", "pipe.mp4", "loop.mp4", "missing.mp4", "nul\0.mp4"):
        with pytest.raises(InvalidSource, match=name.split("\0")[0]):
            media.identify(tmp_path / name)
