"""Connecting to a checked address must not weaken TLS: the certificate is for the name, as ever."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from worker.errors import SourceUnavailable
from worker.sources.download import download


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Vouches for the server, and is trusted by nobody who is not told to."""
    return trustme.CA()


@pytest.fixture
def fetched(server, rules, scratch, send, authority: trustme.CA) -> Callable[[str], int]:
    """Downloads from a server with a certificate for `localhost`, under a name, and gives the size."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/a"] = send(b"video")

    def fetch(host: str) -> int:
        with scratch.partial(rules.max_bytes) as partial:
            download(server.url("/a", host).replace("http:", "https:"), rules, partial)
            return partial.size

    return fetch


def test_the_certificate_must_be_for_the_name(
    fetched, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert fetched("localhost") == 5
    with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        fetched("127.0.0.1")


def test_the_certificate_must_be_by_somebody_trusted(fetched):
    with pytest.raises(SourceUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        fetched("localhost")
