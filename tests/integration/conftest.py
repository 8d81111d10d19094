"""A farm that has its database and its broker for itself, and a real video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.integration.farm")

from tests import servers  # noqa: E402
from tests.integration.farm import Farm, farming  # noqa: E402
from tests.vm.video.conftest import write_video  # noqa: E402


@pytest.fixture
def farm(postgresql_url: str, redis_url: str, redis_server: servers.Redis, tmp_path: Path) -> Iterator[Farm]:
    """Nothing of it runs yet."""
    with farming(postgresql_url, redis_server, tmp_path) as made:
        yield made


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", times=range(20))


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Has a line shown when all tests have run."""
    return lambda line: record_property("figures", line)
