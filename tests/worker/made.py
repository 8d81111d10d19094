"""Videos as tests submit them."""

from pathlib import Path
from typing import NamedTuple

from worker.sources.local import identify
from worker.sources.rules import SourceRules


class Source(NamedTuple):
    """Where a video is, and the sha256 of its content."""

    uri: str
    sha256: str


def source_of(path: Path) -> Source:
    """A local file as a source."""
    real, sha256, _ = identify(str(path), SourceRules(roots=None))
    return Source(real.as_uri(), sha256)
