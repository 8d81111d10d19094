"""In memory or on disk, and each tower's apart."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vm import VideoMind
from vm.ensemble import SeparateModels
from vm.feature_cache import FeatureCache
from vm.kept_features import KeptFeatures

VIDEO = sha256(b"video").hexdigest()
KEY, OTHER_KEY = (0, 1, 28, 28), (2, 3, 28, 28)
PLENTY = 2**20


@pytest.fixture
def keep(mind: VideoMind, tmp_path: Path) -> Callable[..., KeptFeatures]:
    """What the next one to open the video has."""

    def keep(
        memory_bytes: int = PLENTY, disk_bytes: int = PLENTY, content_hash: str | None = VIDEO
    ) -> KeptFeatures:
        cache = FeatureCache(tmp_path / "features", disk_bytes)
        return KeptFeatures(mind.cast.backbone, memory_bytes, cache, content_hash)

    return keep


def made() -> Tensor:
    return torch.randn(1, 32)


@pytest.mark.parametrize(("memory_bytes", "disk_bytes"), [(PLENTY, 0), (0, PLENTY), (PLENTY, PLENTY)])
def test_what_was_made_is_known_wherever_there_is_room(
    keep: Callable[..., KeptFeatures], memory_bytes: int, disk_bytes: int
) -> None:
    kept, feature = keep(memory_bytes, disk_bytes), made()
    assert kept.missing([KEY, OTHER_KEY]) == [KEY, OTHER_KEY]
    kept.put({KEY: feature}, lasting=True)
    assert kept.missing([KEY, OTHER_KEY]) == [OTHER_KEY]
    assert kept.get([KEY, OTHER_KEY])[KEY].equal(feature)
    assert (keep().missing([KEY]) == []) is (disk_bytes > 0)


def test_what_was_read_once_stays_in_memory(
    keep: Callable[..., KeptFeatures], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep().put({KEY: made()}, lasting=True)
    kept = keep()
    (read,) = kept.get([KEY]).values()
    assert kept.nbytes == read.nbytes
    monkeypatch.setattr(FeatureCache, "read", None)
    assert kept.get([KEY])[KEY].equal(read)
    kept.clear()
    assert kept.nbytes == 0


@pytest.mark.parametrize(("lasting", "content_hash"), [(False, VIDEO), (True, None)])
def test_what_must_not_last_or_has_no_name_stays_in_memory(
    keep: Callable[..., KeptFeatures], tmp_path: Path, lasting: bool, content_hash: str | None
) -> None:
    kept = keep(content_hash=content_hash)
    kept.put({KEY: made()}, lasting=lasting)
    assert kept.missing([KEY]) == []
    assert not (tmp_path / "features").exists()


def test_roles_with_towers_of_their_own_have_features_of_their_own(
    mind: VideoMind, miniature: Path, tmp_path: Path
) -> None:
    coarse = VideoMind.load(miniature, device="cpu", dtype="bfloat16").cast.backbone
    both = SeparateModels(mind.cast.backbone, {"planner": mind.cast.backbone, "grounder": coarse})
    features = {"planner": made(), "grounder": made().bfloat16()}
    for _ in range(2):
        kept = KeptFeatures(both, 0, FeatureCache(tmp_path), VIDEO)
        for role, feature in features.items():
            with both.acting_as(role):
                kept.put({KEY: feature}, lasting=True)
        for role, feature in features.items():
            with both.acting_as(role):
                assert kept.get([KEY])[KEY].equal(feature)
