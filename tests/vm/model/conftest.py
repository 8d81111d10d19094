import shutil
from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path, miniature: Path) -> Path:
    """A folder with the miniature's `checkpoint` and `base`, to be changed at will."""
    for name in ("checkpoint", "base"):
        shutil.copytree(miniature.parent / name, tmp_path / name)
    return tmp_path
