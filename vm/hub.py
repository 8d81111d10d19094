"""Fetches a checkpoint and its base from the hub: weights and settings only, at one pinned commit.

    DIR/checkpoint/    the adapters, as published
    DIR/base/          the Qwen2-VL model they were trained on
    DIR/pulled.json    which repository and commit each of them is, and the files' sizes and hashes

Files that are there already are not fetched again, and a file of weights that a broken or killed pull
left half fetched is gone on with. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured, as
huggingface_hub reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, is_offline_mode

from vm.errors import CheckpointNotFound, DownloadError
from vm.hub_files import HubFile, Source, download, explained, name_of, verify, wanted_files
from vm.text_file import read_text, write_json

RECORD = "pulled.json"
MAX_JSON_BYTES = 16 * 2**20
TIMEOUT = 30.0  # seconds the hub may stay silent

_QWEN2_VL = re.compile(r"Qwen2-VL-\d+B(-Instruct)?")


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit. `revision` is what was asked for, None for the default branch."""

    repository: str
    revision: str | None
    commit: str
    files: tuple[HubFile, ...]

    def is_of(self, repository: str, revision: str | None) -> bool:
        return self.repository == repository and revision in (self.revision, self.commit)


@dataclass(frozen=True)
class Pulled:
    """What `pull` made sure of: the folder, and what its two parts are."""

    folder: Path
    checkpoint: Snapshot
    base: Snapshot


def pull(
    model: str,
    folder: Path,
    *,
    base: str | None = None,
    revision: str | None = None,
    base_revision: str | None = None,
    endpoint: str | None = None,
) -> Pulled:
    """Make `folder` hold a checkpoint and its base, complete and unaltered. Progress goes to stderr.

    Args:
        model: the checkpoint's repository, such as yeliudev/VideoMind-2B.
        folder: made where it is missing.
        base: the base's repository; found in the checkpoint's config.json if None.
        revision, base_revision: branch, tag or commit; the default branch if None.
        endpoint: the hub's address; `HF_ENDPOINT` or the public hub if None.

    Raises:
        DownloadError: the hub cannot be reached, refuses, or sends something else than it announced;
            or `HF_HUB_OFFLINE` is set and not everything is there; or the base is not known.
        UnsafeWeights: weights are published as pickles only.
        CheckpointNotFound: the repository holds no weights or no config.json.
    """
    hub = _Hub(folder, endpoint)
    checkpoint = hub.look_up("checkpoint", model, revision)
    base_name = base or _base_name(hub.fetch_file("checkpoint", checkpoint, "config.json"))
    base_snapshot = hub.look_up("base", base_name, base_revision)
    hub.fetch("checkpoint", checkpoint)
    hub.fetch("base", base_snapshot)
    return Pulled(folder, checkpoint, base_snapshot)


def fetch_base(repository: str, endpoint: str | None = None) -> Path:
    """The folder of a base named by its repository, fetched once for all checkpoints that want it.

    It is kept below `HF_HOME`, at the commit that was current when it was first fetched.

    Raises:
        DownloadError, UnsafeWeights, CheckpointNotFound: as `pull` does.
    """
    hub = _Hub(Path(constants.HF_HOME) / "videomind" / repository.replace("/", "--"), endpoint)
    return hub.recorded_copy("base", repository) or hub.fetch("base", hub.look_up("base", repository, None))


class _Hub:
    """One folder and the hub it is filled from. `part` is "checkpoint" or "base"."""

    def __init__(self, folder: Path, endpoint: str | None) -> None:
        self._folder = folder
        self._endpoint = endpoint
        self._recorded = _read_record(folder / RECORD)

    def look_up(self, part: str, repository: str, revision: str | None) -> Snapshot:
        """Pin a revision to its commit and list what is wanted of it; offline, as recorded."""
        if is_offline_mode():
            return self._look_up_offline(part, repository, revision)
        with explained(repository, revision):
            info = HfApi(endpoint=self._endpoint).model_info(
                repository, revision=revision, files_metadata=True, timeout=TIMEOUT
            )
            if not info.sha:
                raise ValueError("the answer names no commit")
        listed = [HubFile(s.rfilename, s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or ()]
        return Snapshot(repository, revision, info.sha, wanted_files(repository, listed))

    def _look_up_offline(self, part: str, repository: str, revision: str | None) -> Snapshot:
        snapshot = self._recorded.get(part)
        if snapshot and snapshot.is_of(repository, revision):
            return snapshot
        raise DownloadError(
            f"HF_HUB_OFFLINE is set, and {self._folder / part} does not hold {name_of(repository, revision)};"
            " unset it and pull once"
        )

    def recorded_copy(self, part: str, repository: str) -> Path | None:
        """The folder of a part that was pulled before and still has its files."""
        snapshot, folder = self._recorded.get(part), self._folder / part
        if (
            snapshot
            and snapshot.repository == repository
            and all((folder / file.path).is_file() for file in snapshot.files)
        ):
            return folder
        return None

    def fetch(self, part: str, snapshot: Snapshot) -> Path:
        """Every file of a snapshot, then the record, so that the record vouches for what is there."""
        for file in snapshot.files:
            self.fetch_file(part, snapshot, file.path)
        self._recorded[part] = snapshot
        content = {name: asdict(recorded) for name, recorded in sorted(self._recorded.items())}
        write_json(self._folder / RECORD, content, DownloadError)
        return self._folder / part

    def fetch_file(self, part: str, snapshot: Snapshot, path: str) -> Path:
        """One file of a snapshot, checked against the hub's listing; its path here."""
        file = next((file for file in snapshot.files if file.path == path), None)
        if file is None:
            raise CheckpointNotFound(f"{snapshot.repository}: has no {path}; is it a VideoMind checkpoint?")
        folder = self._folder / part
        if is_offline_mode():
            verify(folder / path, file)
        else:
            with explained(snapshot.repository, snapshot.revision):
                download(Source(snapshot.repository, snapshot.commit, self._endpoint), file, folder)
        return folder / path


def _base_name(config: Path) -> str:
    """The hub's name for the base, which the published config gives as a path on the publisher's disk."""
    content = _read_json(config)
    path = content.get("base_model_path") if isinstance(content, dict) else None
    name = PurePosixPath(path).name if isinstance(path, str) else ""
    if not _QWEN2_VL.fullmatch(name):
        raise DownloadError(f"{config}: base_model_path {path!r} names no Qwen2-VL model; give --base")
    return f"Qwen/{name}"


def _read_record(path: Path) -> dict[str, Snapshot]:
    """What earlier pulls recorded; nothing where there is no readable record."""
    if not path.exists():
        return {}
    try:
        return {part: _snapshot(recorded) for part, recorded in _read_json(path).items()}
    except (TypeError, KeyError, AttributeError) as problem:
        raise DownloadError(f"{path}: not a record of a pull; remove it and pull again") from problem


def _snapshot(recorded: Mapping[str, Any]) -> Snapshot:
    files = tuple(HubFile(**file) for file in recorded["files"])
    return Snapshot(recorded["repository"], recorded["revision"], recorded["commit"], files)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path, MAX_JSON_BYTES, DownloadError))
    except (ValueError, RecursionError) as problem:
        raise DownloadError(f"{path}: not JSON; remove it and pull again") from problem
