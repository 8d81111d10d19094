"""`pull` against a small hub of the test's own, over real HTTP."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from vm.errors import CheckpointNotFound, DownloadError, UnsafeWeights, VideoMindError
from vm.hub import fetch_base, pull

COMMIT = "c" * 40
MODEL = "tests/tiny"
BASE = "Qwen/Qwen2-VL-2B-Instruct"
WEIGHTS = bytes(range(256)) * 400


@dataclass
class Hub:
    """What the server serves, how it misbehaves, and what it was asked."""

    repositories: dict[str, dict[str, bytes]]
    cut_once: set[str] = field(default_factory=set)
    altered: set[str] = field(default_factory=set)
    shortened: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    stored_elsewhere: bool = False
    tokens: dict[str, set[str | None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    @property
    def fetched(self) -> list[str]:
        return [line.split("/")[-1] for line in self.asked if line.startswith("GET") and "/resolve/" in line]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {self.headers.get('Range', '')} {path}")
        host = self.headers["Host"].split(":")[0]
        self.hub.tokens.setdefault(host, set()).add(self.headers.get("Authorization"))
        if status := next((code for part, code in self.hub.statuses.items() if part in path), None):
            self.send(status, b"{}")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.describe(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if self.hub.stored_elsewhere and host == "127.0.0.1" and path.endswith(".safetensors"):
                elsewhere = f"http://localhost:{self.server.server_address[1]}{path}"
                return self.send(302, b"", {"Location": elsewhere, "ETag": '"x"', "X-Repo-Commit": COMMIT})
            self.deliver(self.hub.repositories[match[1]][match[3]], match[3])

    def describe(self, repository: str, revision: str) -> None:
        files = self.hub.repositories.get(repository)
        if files is None:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1", COMMIT):
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = [listing(path, content) for path, content in files.items()]
        self.send(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

    def deliver(self, content: bytes, path: str) -> None:
        if path in self.hub.altered:
            content = content[::-1]
        if path in self.hub.shortened:
            content = content[:-1]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return self.send(206, content[start:], headers)
        cut = self.command == "GET" and path in self.hub.cut_once
        self.hub.cut_once -= {path} if cut else set()
        self.send(200, content, headers, sent=len(content) // 2 if cut else None)

    def send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        self.close_connection = sent is not None

    def log_message(self, *_: object) -> None:
        pass


def listing(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
    if path.endswith(".safetensors"):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 1}
    return entry


@pytest.fixture
def hub() -> Iterator[Hub]:
    served = Hub(
        {
            MODEL: {
                "config.json": json.dumps({"base_model_path": "model_zoo/Qwen2-VL-2B-Instruct"}).encode(),
                "grounder/adapter_model.safetensors": WEIGHTS,
                "grounder/adapter_config.json": b"{}",
                "merges.txt": b"a b\n",
                "modeling.py": b"print('never')",
                "training_args.bin": b"never",
                "README.md": b"never",
            },
            BASE: {"config.json": b"{}", "model.safetensors": WEIGHTS[::-1]},
        }
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": served}))
    served.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


def files_below(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {file.as_posix() for file in files if ".cache" not in file.parts}


def test_weights_and_settings_of_both_parts_arrive_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    pulled = pull(MODEL, tmp_path, endpoint=hub.address)
    assert files_below(tmp_path) == {
        "checkpoint/config.json",
        "checkpoint/grounder/adapter_config.json",
        "checkpoint/grounder/adapter_model.safetensors",
        "checkpoint/merges.txt",
        "base/config.json",
        "base/model.safetensors",
        "pulled.json",
    }
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert (pulled.checkpoint.commit, pulled.base.repository) == (COMMIT, BASE)


def test_the_record_names_repositories_and_commits(hub: Hub, tmp_path: Path) -> None:
    pull(MODEL, tmp_path, revision="v1", endpoint=hub.address)
    record = json.loads((tmp_path / "pulled.json").read_text())
    assert {part: (r["repository"], r["revision"], r["commit"]) for part, r in record.items()} == {
        "checkpoint": (MODEL, "v1", COMMIT),
        "base": (BASE, None, COMMIT),
    }


def test_files_are_asked_for_by_commit(hub: Hub, tmp_path: Path) -> None:
    pull(MODEL, tmp_path, revision="v1", endpoint=hub.address)
    assert all(f"/resolve/{COMMIT}/" in line for line in hub.asked if "/resolve/" in line)


def test_a_second_pull_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    pull(MODEL, tmp_path, endpoint=hub.address)
    hub.asked.clear()
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert hub.fetched == []


def test_a_broken_transfer_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    hub.cut_once.add("model.safetensors")
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert any(f"bytes={len(WEIGHTS) // 2}-" in line for line in hub.asked)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Where a killed process leaves what it has of the base's weights."""
    path = tmp_path / "base" / ".cache" / "parts" / hashlib.sha256(WEIGHTS[::-1]).hexdigest()
    path.parent.mkdir(parents=True)
    return path


def test_the_token_is_shown_to_the_hub_and_not_to_its_store(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.stored_elsewhere = True
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert hub.tokens == {"127.0.0.1": {"Bearer secret"}, "localhost": {None}}


def test_a_killed_pull_is_gone_on_with(hub: Hub, tmp_path: Path, part: Path) -> None:
    part.write_bytes(WEIGHTS[::-1][:1000])
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]
    assert any("bytes=1000-" in line for line in hub.asked)
    assert not part.exists()


def test_a_part_that_is_too_long_is_begun_anew(hub: Hub, tmp_path: Path, part: Path) -> None:
    part.write_bytes(WEIGHTS + b"more")
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_part_of_something_else_costs_one_more_pull(hub: Hub, tmp_path: Path, part: Path) -> None:
    part.write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"model\.safetensors: is not what .* pull again"):
        pull(MODEL, tmp_path, endpoint=hub.address)
    pull(MODEL, tmp_path, endpoint=hub.address)


def test_a_pull_that_failed_keeps_the_files_it_has(hub: Hub, tmp_path: Path) -> None:
    hub.statuses["/model.safetensors"] = 403
    with pytest.raises(DownloadError, match="the hub refuses access"):
        pull(MODEL, tmp_path, endpoint=hub.address)
    hub.statuses.clear()
    hub.asked.clear()
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert hub.fetched == ["model.safetensors"]


def test_altered_files_are_refused_and_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    hub.altered.add("model.safetensors")
    with pytest.raises(DownloadError, match=r"model\.safetensors: is not what the hub announced"):
        pull(MODEL, tmp_path, endpoint=hub.address)
    hub.altered.clear()
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert (tmp_path / "base/model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_files_of_a_wrong_size_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.shortened.add("merges.txt")
    with pytest.raises(DownloadError, match=r"merges\.txt: has 3 bytes, the hub announced 4"):
        pull(MODEL, tmp_path, endpoint=hub.address)


def test_pickled_weights_are_refused_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    files = hub.repositories[MODEL]
    files["verifier/adapter_model.bin"] = b"pickle"
    with pytest.raises(UnsafeWeights, match=r"verifier/adapter_model\.bin is a pickle"):
        pull(MODEL, tmp_path, endpoint=hub.address)
    assert hub.fetched == []
    files["verifier/adapter_model.safetensors"] = WEIGHTS
    pull(MODEL, tmp_path, endpoint=hub.address)
    assert "checkpoint/verifier/adapter_model.bin" not in files_below(tmp_path)


def test_the_base_may_be_named(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["me/base"] = hub.repositories.pop(BASE)
    pulled = pull(MODEL, tmp_path, base="me/base", base_revision="v1", endpoint=hub.address)
    assert (pulled.base.repository, pulled.base.revision) == ("me/base", "v1")


@pytest.mark.parametrize("config", [b"{}", b"[]", b'{"base_model_path": "../../etc/passwd"}'])
def test_an_unknown_base_must_be_named(hub: Hub, tmp_path: Path, config: bytes) -> None:
    hub.repositories[MODEL]["config.json"] = config
    with pytest.raises(DownloadError, match=r"config\.json.*give --base"):
        pull(MODEL, tmp_path, endpoint=hub.address)


@pytest.mark.parametrize(
    ("model", "revision", "error", "message"),
    [
        ("nobody/nothing", None, DownloadError, "nobody/nothing: no such repository"),
        (MODEL, "v9", DownloadError, "tests/tiny at v9: no such branch"),
        ("a/b/c", None, DownloadError, "not a repository's name"),
        ("tests/empty", None, CheckpointNotFound, "holds no safetensors"),
        ("tests/bare", None, CheckpointNotFound, r"has no config\.json"),
        ("tests/rude", None, DownloadError, r"listing is unsafe \('\.\./\.\./out\.json'\)"),
    ],
)
def test_what_is_not_there_is_named(
    hub: Hub, tmp_path: Path, model: str, revision: str | None, error: type[VideoMindError], message: str
) -> None:
    hub.repositories["tests/empty"] = {"README.md": b"hello"}
    hub.repositories["tests/bare"] = {"model.safetensors": WEIGHTS}
    hub.repositories["tests/rude"] = {**hub.repositories[MODEL], "../../out.json": b"{}"}
    with pytest.raises(error, match=message):
        pull(model, tmp_path / "to", revision=revision, endpoint=hub.address)
    assert not (tmp_path.parent / "out.json").exists()


@pytest.mark.parametrize(
    ("status", "message"), [(401, "set HF_TOKEN"), (500, "HTTP status 500"), (302, "check the connection")]
)
def test_refusals_of_the_hub_are_typed(hub: Hub, tmp_path: Path, status: int, message: str) -> None:
    hub.statuses["/api/"] = status
    with pytest.raises(DownloadError, match=message):
        pull(MODEL, tmp_path, endpoint=hub.address)


def test_a_hub_out_of_reach_is_typed(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="check the connection and HF_ENDPOINT"):
        pull(MODEL, tmp_path, endpoint="http://127.0.0.1:1")


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"base": {}}'])
def test_a_broken_record_is_named(hub: Hub, tmp_path: Path, content: str) -> None:
    (tmp_path / "pulled.json").write_text(content)
    with pytest.raises(DownloadError, match=r"pulled\.json"):
        pull(MODEL, tmp_path, endpoint=hub.address)


def test_a_base_is_fetched_once_for_all_checkpoints(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    folder = fetch_base(BASE, endpoint=hub.address)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS[::-1]
    hub.asked.clear()
    assert (fetch_base(BASE, endpoint=hub.address), hub.asked) == (folder, [])
    (folder / "model.safetensors").unlink()
    assert (fetch_base(BASE, endpoint=hub.address), hub.fetched) == (folder, ["model.safetensors"])


def test_offline_half_a_copy_will_not_do(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(MODEL, tmp_path, endpoint=hub.address)
    monkeypatch.setattr("vm.hub.is_offline_mode", lambda: True)
    with pytest.raises(DownloadError, match=r"HF_HUB_OFFLINE is set, and .* does not hold tests/tiny at v9"):
        pull(MODEL, tmp_path, revision="v9")
    (tmp_path / "base/model.safetensors").unlink()
    with pytest.raises(DownloadError, match=r"base/model\.safetensors: missing"):
        pull(MODEL, tmp_path)
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        pull(MODEL, tmp_path / "elsewhere")


def test_the_command_obeys_the_environment(hub: Hub, tmp_path: Path) -> None:
    """In processes of their own: huggingface_hub reads its environment once, when it is imported."""
    command = [sys.executable, "-m", "vm.cli", "pull", MODEL, "--to", str(tmp_path)]

    def run(**environment: str) -> str:
        env = {**os.environ, "HF_ENDPOINT": hub.address, **environment}
        return subprocess.run(
            command, env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=True
        ).stdout

    shown = run()
    assert [line.split()[1:] for line in shown.splitlines()] == [[MODEL, COMMIT], [BASE, COMMIT]]
    hub.asked.clear()
    assert (run(HF_HUB_OFFLINE="1"), hub.asked) == (shown, [])
