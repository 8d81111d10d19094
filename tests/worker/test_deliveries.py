import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import pytest
from pydantic import SecretStr

from worker import deliveries
from worker.settings import Settings
from worker.standing import Hit, Standing
from worker.store import Store
from worker.sweep import sweep

SECRET = "a secret that both know"
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Told:
    """A request as it came."""

    headers: Message
    body: bytes


class Receiver(ThreadingHTTPServer):
    """Answers each request as the next of `answers` says, and with 204 when there are none left."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hits"
        self.told: list[Told] = []
        self.answers: list[Answer] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that break are what the tests are about."""

    def told_by(self, store: Store, settings: Settings) -> Told:
        """The next request, of a delivery that is made at once."""
        with store.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE hits SET deliver_at = found_at WHERE deliver_at IS NOT NULL")
        deliveries.make_due(store, settings)
        return self.told[-1]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.told.append(Told(self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
        answer = self.server.answers.pop(0) if self.server.answers else status(204)
        answer(self)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def status(code: int, location: str | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        if location:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def drop(handler: BaseHTTPRequestHandler) -> None:
    """Hangs up without a word."""
    handler.close_connection = True


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made: list[Receiver] = []
    yield made
    for receiver in made:
        receiver.shutdown()
        receiver.server_close()


@pytest.fixture
def listen(receivers: list[Receiver]) -> Callable[[], Receiver]:
    """Starts another receiver."""

    def start() -> Receiver:
        receivers.append(Receiver())
        threading.Thread(target=receivers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return receivers[-1]

    return start


@pytest.fixture
def receiver(listen: Callable[[], Receiver]) -> Receiver:
    return listen()


@pytest.fixture
def here(settings: Settings) -> Settings:
    """Settings under which this machine may be called."""
    allowed = (ip_network("127.0.0.0/8"),)
    return settings.changed(allowed_networks=allowed, webhook_secret=SecretStr(SECRET))


@pytest.fixture
def hit(store: Store, registered, mind, found) -> Callable[..., None]:
    """Has a webhook wait for a question, and a video show what it waits for."""

    def make(receiver: Receiver, question: str = "Who comes in?") -> None:
        store.standing.add(Standing(question, "depot", webhook_url=receiver.url))
        ids = registered(collection="depot", source="gate")
        for claim in store.analyses.claim_these(ids, "w", mind.fingerprint, Settings().lease):
            store.analyses.finish(claim, found(question))

    return make


def _one(store: Store) -> Hit:
    (hit,) = store.hits.latest()
    return hit


def _is_ours(told: Told, now: float, secret: str = SECRET) -> bool:
    """As a receiver looks at it: sent by who knows the secret, and just now."""
    timestamp = told.headers["X-VideoMind-Timestamp"]
    signed = timestamp.encode() + b"." + told.body
    wanted = "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    fresh = abs(now - int(timestamp)) < 300
    return fresh and hmac.compare_digest(wanted, told.headers["X-VideoMind-Signature"])


def test_a_hit_is_told_once_by_the_sweep(store: Store, here: Settings, hit, receiver: Receiver):
    hit(receiver)
    sweep(store, here)
    sweep(store, here)
    (told,) = receiver.told
    assert json.loads(told.body) == _one(store).told()
    assert told.headers["X-VideoMind-Event"] == _one(store).event_id
    assert told.headers["Content-Type"] == "application/json"
    assert _one(store).delivery_state == "delivered"


def test_a_receiver_can_tell_who_sent_it_and_what_is_sent_again_by_others(
    store: Store, here: Settings, hit, receiver: Receiver
):
    hit(receiver)
    told = receiver.told_by(store, here)
    now = time.time()
    assert _is_ours(told, now)
    assert not _is_ours(told, now, "another secret")
    assert not _is_ours(Told(told.headers, told.body.replace(b"0.7", b"0.1")), now)
    assert not _is_ours(told, now + 3600)  # recorded, and sent again later
    told.headers.replace_header("X-VideoMind-Timestamp", str(int(now + 3600)))
    assert not _is_ours(told, now + 3600)  # and made to look new


@pytest.mark.parametrize("answer", [status(500), status(404), status(429), drop])
def test_what_was_not_heard_is_told_again_under_the_same_id(
    store: Store, here: Settings, hit, receiver: Receiver, answer: Answer
):
    hit(receiver)
    receiver.answers = [answer]
    first = receiver.told_by(store, here)
    deliveries.make_due(store, here)
    assert len(receiver.told) == 1  # it is not due yet
    assert (_one(store).delivery_state, _one(store).attempts) == ("pending", 1)
    assert _one(store).error
    second = receiver.told_by(store, here)
    assert first.headers["X-VideoMind-Event"] == second.headers["X-VideoMind-Event"]
    assert _is_ours(second, time.time())
    assert (_one(store).delivery_state, _one(store).error) == ("delivered", None)


def test_a_receiver_that_takes_too_long_is_told_again(
    store: Store, here: Settings, hit, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    hit(receiver)
    ended = threading.Event()
    receiver.answers = [lambda handler: ended.wait(60)]
    with monkeypatch.context() as patch:
        patch.setattr(deliveries, "_SECONDS", 0.5)
        deliveries.make_due(store, here)
    ended.set()
    assert _one(store).delivery_state == "pending"
    receiver.told_by(store, here)
    assert _one(store).delivery_state == "delivered"


def test_a_redirect_is_not_followed(store: Store, here: Settings, hit, receiver: Receiver, listen):
    elsewhere = listen()
    hit(receiver)
    receiver.answers = [status(code, elsewhere.url) for code in (301, 302, 307, 308)]
    for _ in range(4):
        receiver.told_by(store, here)
    assert elsewhere.told == []
    assert _one(store).delivery_state == "pending"
    assert "308" in _one(store).error


def test_nobody_is_told_at_an_address_that_is_not_allowed(
    store: Store, here: Settings, hit, receiver: Receiver
):
    hit(receiver)
    deliveries.make_due(store, here.changed(allowed_networks=()))
    assert receiver.told == []
    assert "VIDEOMIND_ALLOWED_NETWORKS" in _one(store).error


def test_nothing_is_sent_unsigned(store: Store, here: Settings, hit, receiver: Receiver):
    hit(receiver)
    deliveries.make_due(store, here.changed(webhook_secret=None))
    assert receiver.told == []
    assert "VIDEOMIND_WEBHOOK_SECRET is not set" in _one(store).error


def test_what_is_never_heard_is_given_up_and_delivered_when_somebody_asks_for_it(
    store: Store, here: Settings, hit, receiver: Receiver
):
    hit(receiver)
    receiver.answers = [status(503)] * 50
    for _ in range(20):
        receiver.told_by(store, here)
    assert len(receiver.told) == 10
    assert (_one(store).delivery_state, _one(store).attempts) == ("dead", 10)
    assert "503" in _one(store).error
    receiver.answers = []
    store.hits.retry([_one(store).id])
    deliveries.make_due(store, here)
    assert _one(store).delivery_state == "delivered"
    assert len({told.headers["X-VideoMind-Event"] for told in receiver.told}) == 1


def test_a_receiver_that_fails_keeps_no_other_waiting(
    store: Store, here: Settings, hit, receiver: Receiver, listen
):
    good = listen()
    receiver.answers = [status(500)] * 50
    hit(receiver, "Who comes in?")
    hit(good, "What moves?")
    deliveries.make_due(store, here)
    assert (len(receiver.told), len(good.told)) == (1, 1)


def test_two_sweeps_at_once_tell_each_hit_once(store: Store, here: Settings, hit, receiver: Receiver):
    for number in range(5):
        hit(receiver, f"question {number}")
    together = threading.Barrier(2)

    def deliver() -> None:
        together.wait()
        deliveries.make_due(store, here)

    threads = [threading.Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [each.headers["X-VideoMind-Event"] for each in receiver.told]
    assert sorted(told) == sorted(hit.event_id for hit in store.hits.latest())
