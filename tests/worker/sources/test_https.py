"""Connecting to a checked address must not weaken TLS: the certificate is for the name, as ever."""

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.errors import SourceUnavailable
from worker.sources.download import download

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For `localhost`, by nobody but itself; the key lies beside it."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-keyout", file.with_suffix(".key"), "-out", file, "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return file


@pytest.fixture
def fetched(server, rules, scratch, send, certificate: Path) -> Callable[[str], int]:
    """Downloads from a server with the certificate, under a name, and gives the size."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/a"] = send(b"video")

    def fetch(host: str) -> int:
        with scratch.partial(rules.max_bytes) as partial:
            download(server.url("/a", host).replace("http:", "https:"), rules, partial)
            return partial.size

    return fetch


def test_the_certificate_must_be_for_the_name(fetched, certificate: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert fetched("localhost") == 5
    with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        fetched("127.0.0.1")


def test_the_certificate_must_be_by_somebody_trusted(fetched):
    with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        fetched("localhost")
