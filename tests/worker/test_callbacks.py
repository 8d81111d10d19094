import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_network

import pytest

from worker import callbacks
from worker.settings import Settings
from worker.store import Store


class Receiver:
    """A server that answers with the given statuses, then with 204."""

    def __init__(self, *statuses: int) -> None:
        told: list[dict] = []
        self.told, answers = told, iter(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(next(answers, 204))
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made: list[Receiver] = []
    yield made
    for receiver in made:
        receiver.server.shutdown()
        receiver.server.server_close()


@pytest.fixture
def here(settings: Settings) -> Settings:
    """Settings under which this machine may be called."""
    return settings.changed(allowed_networks=(ip_network("127.0.0.0/8"),))


def _listening(receivers: list[Receiver], *statuses: int) -> Receiver:
    receivers.append(Receiver(*statuses))
    return receivers[-1]


def _due(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE submissions SET callback_at = NULL")


def test_the_end_is_told_once_and_only_when_all_has_ended(
    store: Store, here: Settings, registered, receivers: list[Receiver], mind, found
):
    receiver = _listening(receivers)
    ids = registered("a", "b", callback_url=receiver.url)
    claims = store.analyses.claim_these(ids, "w", mind.fingerprint, here.lease)
    store.analyses.finish(claims[0], found("a"))
    callbacks.make_due(store, here)
    assert receiver.told == []
    store.analyses.finish(claims[1], found("b"))
    callbacks.make_due(store, here)
    callbacks.make_due(store, here)
    assert [[each["analysis_id"] for each in told["analyses"]] for told in receiver.told] == [ids]
    assert {each["state"] for each in receiver.told[0]["analyses"]} == {"succeeded"}


@pytest.mark.parametrize("status", [500, 302, 404])
def test_what_was_not_heard_is_told_again_later(
    store: Store, here: Settings, registered, receivers: list[Receiver], status: int
):
    receiver = _listening(receivers, status)
    store.analyses.cancel(registered("a", callback_url=receiver.url))
    callbacks.make_due(store, here)
    callbacks.make_due(store, here)
    assert len(receiver.told) == 1  # it is not due yet
    _due(store)
    callbacks.make_due(store, here)
    _due(store)
    callbacks.make_due(store, here)
    assert len(receiver.told) == 2
    assert receiver.told[0] == receiver.told[1]


def test_nobody_is_called_at_an_address_that_is_not_allowed(
    store: Store, settings: Settings, registered, receivers: list[Receiver]
):
    receiver = _listening(receivers)
    store.analyses.cancel(registered("a", callback_url=receiver.url))
    callbacks.make_due(store, settings)
    assert receiver.told == []
    with store.engine.begin() as connection:
        error = connection.exec_driver_sql("SELECT callback_error FROM submissions").scalar_one()
    assert "not allowed" in error or "address" in error


def test_a_receiver_that_never_hears_is_given_up(store: Store, here: Settings, registered, receivers):
    receiver = _listening(receivers, *[500] * 50)
    store.analyses.cancel(registered("a", callback_url=receiver.url))
    for _ in range(20):
        _due(store)
        callbacks.make_due(store, here)
    assert len(receiver.told) == 8
