from pathlib import Path

import pytest
import torch

from vm.training.feature_store import FeatureStore

ONE = torch.ones(4, 8)
PLENTY = 2**20


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_what_is_put_comes_back_from_memory_and_by_another_process_from_disk(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, PLENTY, PLENTY)
    assert store.get("a") is None
    store.put("a", ONE)
    for reader in (store, FeatureStore(tmp_path, PLENTY, PLENTY), FeatureStore(tmp_path, 0, PLENTY)):
        assert torch.equal(reader.get("a"), ONE)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", [True, False])
def test_without_room_nothing_is_kept(tmp_path: Path, folder: bool) -> None:
    store = FeatureStore(tmp_path if folder else None, 0, 0)
    store.put("a", ONE)
    assert store.get("a") is None
    assert files(tmp_path) == []


def test_the_disk_keeps_what_was_used_last_within_its_bound(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 0, PLENTY)
    store.put("a", ONE)
    size = files(tmp_path)[0].stat().st_size
    store = FeatureStore(tmp_path, 0, 3 * size)
    for key in ("b", "c"):
        store.put(key, ONE)
    assert store.get("a") is not None
    store.put("d", ONE)
    assert [key for key in "abcd" if store.get(key) is not None] == ["a", "c", "d"]
    assert len(files(tmp_path)) == 3


def test_files_that_are_damaged_or_gone_are_made_anew(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 0, PLENTY)
    store.put("a", ONE)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:20])
    assert store.get("a") is None
    store.put("a", ONE)
    assert store.get("a") is not None
    path.unlink()
    assert store.get("a") is None
    store.put("a", ONE)
    assert store.get("a") is not None


def test_a_disk_that_cannot_be_written_keeps_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    store = FeatureStore(folder, PLENTY, PLENTY)
    folder.rmdir()
    store.put("a", ONE)
    assert store.get("a") is not None
    assert FeatureStore(folder, PLENTY, PLENTY).get("a") is None
