"""Features outlive the process that made them; whatever is wrong on disk costs only that."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from vm.feature_cache import FeatureCache, PatchKey, Shelf, hash_content

VIDEO, OTHER_VIDEO, TOWER, OTHER_TOWER = (sha256(name.encode()).hexdigest() for name in "abcd")
SIZE = (28, 56)
HOUR = 3600


def made(*firsts: int, dtype: torch.dtype = torch.float32) -> dict[PatchKey, Tensor]:
    """Features of patches that begin with these frames: 1 kB each in float32."""
    return {(first, first + 1, *SIZE): torch.randn(2, 128).to(dtype) for first in firsts}


def same(one: dict[PatchKey, Tensor], other: dict[PatchKey, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Does not exist yet."""
    return tmp_path / "kept" / "features"


@pytest.fixture
def shelf(folder: Path) -> Callable[..., Shelf]:
    """What a process that has just been started finds."""

    def find(video: str = VIDEO, tower: str = TOWER, max_bytes: int = 10**6) -> Shelf:
        return FeatureCache(folder, max_bytes).shelf(video, tower)

    return find


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_another_process_finds_every_bit_of_what_was_made(
    shelf: Callable[..., Shelf], dtype: torch.dtype
) -> None:
    first, second = made(0, 2, dtype=dtype), made(4, dtype=dtype)
    keeping = shelf()
    assert keeping.get([*first]) == {}
    keeping.put(first)
    keeping.put(second)
    for known in (keeping, shelf()):
        assert same(known.get([*second, *first]), {**first, **second})
        assert all(feature.dtype == dtype for feature in known.get([*first]).values())


def test_only_what_was_asked_for_and_is_kept_is_given(shelf: Callable[..., Shelf]) -> None:
    features = made(0, 2, 4)
    shelf().put(features)
    there, elsewhere, larger = (2, 3, *SIZE), (3, 4, *SIZE), (2, 3, 56, 56)
    known = shelf()
    assert [key in known for key in (there, elsewhere, larger)] == [True, False, False]
    assert same(known.get([there, elsewhere, larger]), {there: features[there]})


@pytest.mark.parametrize("other", [{"video": OTHER_VIDEO}, {"tower": OTHER_TOWER}])
def test_another_video_and_another_tower_have_features_of_their_own(
    shelf: Callable[..., Shelf], other: dict[str, str]
) -> None:
    ours, theirs = made(0), made(0)
    shelf().put(ours)
    assert shelf(**other).get([*ours]) == {}
    shelf(**other).put(theirs)
    assert same(shelf().get([*ours]), ours)
    assert same(shelf(**other).get([*ours]), theirs)


def test_what_was_made_together_is_one_file_however_often(shelf: Callable[..., Shelf], folder: Path) -> None:
    features = made(0, 2, 4)
    for _ in range(2):
        shelf().put(features)
    assert len(files(folder)) == 1


@pytest.mark.parametrize("name", ["", "../../etc", "A" * 64, "a" * 63])
def test_no_name_in_the_folder_comes_from_outside(folder: Path, name: str) -> None:
    for video, tower in ((name, TOWER), (VIDEO, name)):
        with pytest.raises(ValueError, match="not a sha256"):
            FeatureCache(folder).shelf(video, tower)


def truncate(path: Path, length: int) -> None:
    os.truncate(path, length)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: truncate(path, 0),
    "cut off in its first bytes": lambda path: truncate(path, 5),
    "cut off in its header": lambda path: truncate(path, 40),
    "cut off in its last byte": lambda path: truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "flipped in its header's length": lambda path: flip(path, 7),
    "flipped in a name": lambda path: flip(path, 10),
    "flipped in a shape": lambda path: flip(path, path.read_bytes().index(b"[2,") + 1),
    "flipped in a number": lambda path: flip(path, -100),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("<html>not found</html>"),
    "other JSON": lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"),
    "deep JSON": lambda path: path.write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("opened_before", [True, False])
def test_a_damaged_file_is_dropped_with_a_line_in_the_log_and_made_anew(
    shelf: Callable[..., Shelf],
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    opened_before: bool,
) -> None:
    spoilt, sound = made(0, 2), made(4)
    shelf().put(spoilt)
    (path,) = files(folder)
    shelf().put(sound)
    before = shelf()
    damage(path)
    known = before if opened_before else shelf()
    assert same(known.get([*spoilt, *sound]), sound)
    assert not any(key in known for key in spoilt)
    if path.exists():  # where its header names other patches, it goes when those are asked for
        assert known.get([(first, 1, *SIZE) for first in range(8)]) == {}
    assert not path.exists()
    assert [record.message for record in caplog.records] == [f"{path} is damaged; its features are made anew"]
    known.put(spoilt)
    assert same(shelf().get([*spoilt]), spoilt)


def test_a_file_of_another_video_or_tower_or_program_is_not_passed_off_as_ours(
    shelf: Callable[..., Shelf], folder: Path
) -> None:
    ours = made(0)
    shelf().put(ours)
    (path,) = files(folder)
    copies = [
        folder / OTHER_VIDEO / path.name,
        path.with_name(path.name.replace(TOWER[:32], OTHER_TOWER[:32])),
    ]
    for copy in copies:
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    foreign = path.with_name(f"{TOWER[:32]}-{'0' * 32}.safetensors")
    foreign.write_bytes(save({"2-3-28x56": torch.ones(2, 128)}))
    assert shelf(OTHER_VIDEO).get([*ours]) == {}
    assert shelf(tower=OTHER_TOWER).get([*ours]) == {}
    assert shelf().get([(2, 3, *SIZE)]) == {}
    assert files(folder) == [path]


def test_a_file_that_is_gone_is_made_anew(shelf: Callable[..., Shelf], folder: Path) -> None:
    features = made(0)
    shelf().put(features)
    known = shelf()
    shutil.rmtree(folder)
    assert known.get([*features]) == {}
    known.put(features)
    assert same(shelf().get([*features]), features)


def test_what_was_used_longest_ago_goes_first_and_the_bound_holds(
    shelf: Callable[..., Shelf], folder: Path
) -> None:
    """Whichever video and tower it is of, and whichever process used it."""
    owners = [(VIDEO, TOWER), (VIDEO, OTHER_TOWER), (OTHER_VIDEO, TOWER), (OTHER_VIDEO, OTHER_TOWER)]
    features = made(0)
    for owner in owners[:3]:
        shelf(*owner, max_bytes=4000).put(features)
    for number, path in enumerate(sorted(files(folder), key=lambda path: path.stat().st_mtime_ns)):
        age(path, 600 - number)
    shelf(*owners[0]).get([*features])
    shelf(*owners[3], max_bytes=4000).put(features)
    assert [bool(shelf(*owner).get([*features])) for owner in owners] == [True, False, True, True]
    for number in range(20):
        shelf(max_bytes=4000).put(made(*range(2 * number, 4 * number, 2)))
        assert sum(path.stat().st_size for path in files(folder)) <= 4000


def test_one_process_that_writes_much_keeps_to_the_bound(folder: Path) -> None:
    shelf = FeatureCache(folder, 200_000).shelf(VIDEO, TOWER)
    for number in range(300):
        shelf.put(made(number))
        assert sum(path.stat().st_size for path in files(folder)) <= 200_000
    assert len(files(folder)) > 100


def test_what_is_larger_than_all_the_room_is_not_kept(shelf: Callable[..., Shelf], folder: Path) -> None:
    small, large = made(0), made(*range(2, 20))
    shelf(max_bytes=4000).put(small)
    shelf(max_bytes=4000).put(large)
    assert shelf().get([*large]) == {}
    assert same(shelf().get([*small]), small)


def test_what_a_crash_left_behind_is_removed_and_what_is_being_written_is_not(
    shelf: Callable[..., Shelf], folder: Path
) -> None:
    shelf().put(made(0))
    orphan, draft = (folder / VIDEO / f"{TOWER[:32]}-{digit * 16}.partial" for digit in "01")
    emptied, starting = folder / OTHER_VIDEO, folder / ("e" * 64)
    for path in (orphan, draft):
        path.write_bytes(b"0" * 100)
    for path in (emptied, starting):
        path.mkdir()
    for path in (orphan, emptied):
        age(path, 2 * HOUR)
    shelf().put(made(2))
    assert [path.exists() for path in (orphan, emptied, draft, starting)] == [False, False, True, True]


def test_what_is_not_ours_is_neither_counted_nor_touched(shelf: Callable[..., Shelf], folder: Path) -> None:
    strangers = [
        folder / "notes.txt",
        folder / "checkpoint" / "model.safetensors",
        folder / VIDEO / "model.safetensors",
        folder / VIDEO / "deeper" / f"{TOWER[:32]}-{'0' * 32}.safetensors",
        folder / ("f" * 64),
    ]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0" * 5000)
        age(path, 9 * HOUR)
    features = made(0)
    for _ in range(3):
        shelf(max_bytes=2500).put(features)
    assert same(shelf().get([*features]), features)
    assert all(path.exists() for path in strangers)


def test_a_folder_that_cannot_be_used_costs_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        caplog.clear()
        cache = FeatureCache(folder)
        for video in (VIDEO, OTHER_VIDEO):
            shelf = cache.shelf(video, TOWER)
            for number in range(3):
                shelf.put(made(number))
                assert shelf.get([*made(number)]) == {}
        assert [(record.levelno, str(folder) in record.message) for record in caplog.records] == [
            (logging.WARNING, True)
        ]


def test_the_hash_is_the_contents_and_none_where_it_may_have_changed_since(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"frames")
    age(path, 60)
    began = time.time()
    assert hash_content(path, began) == sha256(b"frames").hexdigest()
    age(path, -60)
    assert hash_content(path, began) is None
    assert hash_content(tmp_path / "gone.mp4", began) is None
