"""Text that somebody else wrote: small files read with care, ours written whole or not at all."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path

from vm.errors import VideoMindError

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, max_bytes: int, error: type[VideoMindError]) -> str:
    """The text of a file, its line ends turned into newlines.

    Encodings: whatever a byte order mark says, else UTF-8, else Windows-1252.

    Raises:
        error: no regular file, unreadable, longer than `max_bytes`, or not text.
    """
    # Opening a pipe or a device can block for ever, so only regular files are opened at all.
    if not os.path.isfile(path):
        raise error(f"{path}: {'not a regular file' if os.path.exists(path) else 'no such file'}")
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}") from problem
    return decode_text(raw, str(path), max_bytes, error)


def decode_text(raw: bytes, name: str, max_bytes: int, error: type[VideoMindError]) -> str:
    """Bytes already read, as `read_text` decodes them; `name` is what the messages call them."""
    if len(raw) > max_bytes:
        raise error(f"{name}: longer than the {max_bytes} bytes allowed here; is this the right file?")
    text = _decode(raw, name, error)
    if "\0" in text:
        raise error(f"{name}: not a text file; save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode(raw: bytes, name: str, error: type[VideoMindError]) -> str:
    encoding = next((enc for mark, enc in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), None)
    try:
        return raw.decode(encoding or "utf-8")
    except UnicodeDecodeError as problem:
        if encoding:
            raise error(f"{name}: not valid {encoding}; save it as UTF-8 text") from problem
        return raw.decode("cp1252", errors="replace")


def is_unicode(text: str) -> bool:
    """Half a surrogate pair, as badly encoded command lines and JSON escapes leave it, is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_json(target: Path, content: object, error: type[VideoMindError]) -> None:
    """Write JSON as `write_text` writes text."""
    write_text(target, json.dumps(content, ensure_ascii=False, indent=2) + "\n", error)


def write_text(target: Path, text: str, error: type[VideoMindError]) -> None:
    """Write text beside the target and move it into place, so that nobody ever reads half of it.

    Raises:
        error: the file cannot be written.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    except OSError as problem:
        draft.unlink(missing_ok=True)
        raise error(f"{target}: cannot be written: {problem.strerror}") from problem
