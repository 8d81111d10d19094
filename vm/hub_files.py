"""Files of a repository on the hub: which are wanted, how they arrive, whether they are as announced."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    Response,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from vm.errors import CheckpointNotFound, DownloadError, UnsafeWeights

# What a model is made of. Code and pickles are never fetched: both could run when loaded.
_WANTED = ("*.safetensors", "*.json", "merges.txt")
_SHA256 = re.compile("[0-9a-f]{64}")
_PICKLED_WEIGHTS = re.compile(r".*model.*\.(bin|pt|pth|ckpt|pkl|pickle)")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and its hash where the hub keeps one (large files)."""

    path: str
    size: int | None
    sha256: str | None


def wanted_files(repository: str, listed: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """The files to fetch, once it is certain that the weights are not pickles."""
    for file in listed:
        _check_entry(repository, file)
    wanted = tuple(file for file in listed if any(fnmatchcase(file.path, pattern) for pattern in _WANTED))
    weights = [PurePosixPath(file.path) for file in wanted if file.path.endswith(".safetensors")]
    safe = {path.parent for path in weights}
    for path in (PurePosixPath(file.path) for file in listed):
        if _PICKLED_WEIGHTS.fullmatch(path.name) and path.parent not in safe:
            raise UnsafeWeights(
                f"{repository}: {path} is a pickle, which could run code, and no safetensors stands"
                " beside it; ask the publisher for safetensors"
            )
    if not weights:
        raise CheckpointNotFound(f"{repository}: holds no safetensors weights; is this the right repository?")
    return wanted


def _check_entry(repository: str, file: HubFile) -> None:
    """Both the path and the hash become names of files here."""
    inside = not file.path.startswith("/") and ".." not in re.split(r"[/\\]", file.path)
    if not inside or not _SHA256.fullmatch(file.sha256 or "0" * 64):
        raise DownloadError(f"{repository}: its listing is unsafe ({file.path!r}); nothing was fetched")


@dataclass(frozen=True)
class Source:
    """A repository at one commit, on the hub at `endpoint` (None: as huggingface_hub is configured)."""

    repository: str
    commit: str
    endpoint: str | None


def download(source: Source, file: HubFile, folder: Path) -> None:
    """Make `folder` hold one file. Raises what huggingface_hub raises, and DownloadError."""
    target = folder / file.path
    if file.sha256 is None:
        # Small text files; huggingface_hub keeps beside them which commit they are of.
        hf_hub_download(
            source.repository, file.path, revision=source.commit, local_dir=folder, endpoint=source.endpoint
        )
    elif target.is_file() and _problem(target, file) is None:
        return
    else:
        _download_weights(source, file, file.sha256, folder)
    verify(target, file)


def _download_weights(source: Source, file: HubFile, sha256: str, folder: Path) -> None:
    """Fetch a large file into a part named after its content, with which a pull that was killed goes on.

    huggingface_hub itself would start such a file anew in every process.
    """
    url = hf_hub_url(source.repository, file.path, revision=source.commit, endpoint=source.endpoint)
    location = get_hf_file_metadata(url).location
    part = folder / ".cache" / "parts" / sha256
    part.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(f"{part}.lock"), part.open("ab") as sink:
        if file.size is not None and sink.tell() > file.size:
            sink.seek(sink.truncate(0))
        headers = _headers(url, location)
        http_get(location, sink, resume_size=sink.tell(), headers=headers, expected_size=file.size)
    (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
    part.replace(folder / file.path)


def _headers(url: str, location: str) -> dict[str, str]:
    """The user's token is for the hub alone, not for the store it redirects to."""
    same_host = urlsplit(url).netloc == urlsplit(location).netloc
    return build_hf_headers(token=None if same_host else False)


def verify(path: Path, file: HubFile) -> None:
    """Refuse what differs from the hub's listing, and remove it, so that the next pull fetches it anew."""
    if problem := _problem(path, file):
        path.unlink(missing_ok=True)
        raise DownloadError(f"{path}: {problem}; pull again with the hub in reach")


def _problem(path: Path, file: HubFile) -> str | None:
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size} bytes, the hub announced {file.size}"
    return (
        "is not what the hub announced (sha256 differs)" if file.sha256 not in (None, _sha256(path)) else None
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def explained(repository: str, revision: str | None) -> Iterator[None]:
    """Turn whatever goes wrong between here and the hub into one typed error."""
    try:
        yield
    except (HTTPError, OSError, ValueError, KeyError, TypeError) as problem:
        raise DownloadError(f"{name_of(repository, revision)}: {_explanation(problem)}") from problem


def _explanation(problem: Exception) -> str:
    match problem:
        case LocalEntryNotFoundError(__cause__=Exception() as cause):
            return _explanation(cause)
        case GatedRepoError():
            return "the publisher wants terms accepted first; accept them on the hub's page and set HF_TOKEN"
        case RepositoryNotFoundError():
            return "no such repository, or a private one; check the name, or set HF_TOKEN"
        case RevisionNotFoundError():
            return "no such branch, tag or commit; check --revision and --base-revision"
        case HFValidationError():
            return "not a repository's name; write OWNER/NAME, such as yeliudev/VideoMind-2B"
        case HfHubHTTPError(response=Response(status_code=401 | 403)):
            return "the hub refuses access; set HF_TOKEN to a token that may read this repository"
        case HfHubHTTPError():
            return f"the hub answered with HTTP status {problem.response.status_code}; try again later"
    first_line = (str(problem) or type(problem).__name__).splitlines()[0]
    return f"{first_line}; check the connection and HF_ENDPOINT, then pull again to go on from here"


def name_of(repository: str, revision: str | None) -> str:
    return f"{repository} at {revision}" if revision else repository
