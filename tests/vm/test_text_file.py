from pathlib import Path

import pytest

from vm.errors import CheckpointError, QuestionError
from vm.text_file import decode_text, is_unicode, read_text, write_json, write_text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("é".encode(), "é"),
        ("é".encode("utf-8-sig"), "é"),
        ("é".encode("utf-16"), "é"),
        ("é “”".encode("cp1252"), "é “”"),
        (b"\x81", "\N{REPLACEMENT CHARACTER}"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
    ],
)
def test_bytes_are_read_as_what_they_are(raw: bytes, text: str) -> None:
    assert decode_text(raw, "a.txt", 100, QuestionError) == text


def test_a_file_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("four")
    assert read_text(path, 4, QuestionError) == "four"
    with pytest.raises(QuestionError, match=r"a\.txt: longer than the 3 bytes"):
        read_text(path, 3, QuestionError)


def test_json_replaces_a_file_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    write_json(path, {"é": 1}, CheckpointError)
    assert path.read_text(encoding="utf-8") == '{\n  "é": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_text_replaces_a_file_and_leaves_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    write_text(path, "é\n", CheckpointError)
    assert path.read_text(encoding="utf-8") == "é\n"
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError, match="taken: cannot be written"):
        write_json(tmp_path / "taken", {}, CheckpointError)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_half_a_surrogate_pair_is_no_unicode() -> None:
    assert is_unicode("\N{GRINNING FACE} and NUL \0")
    assert not is_unicode("half \ud83d")
