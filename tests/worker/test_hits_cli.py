import json
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from tests import commands
from tests.commands import Command
from tests.servers import DATABASES
from worker import contract
from worker.archive_tables import HitRow
from worker.settings import Settings
from worker.standing import Standing
from worker.store import Store

EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
QUESTION = "Who comes in?"
WEBHOOK = "https://host/hits"
HUGE = 2**63

both = pytest.mark.parametrize("database", DATABASES)


def _lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


@pytest.fixture
def answered(store: Store, registered, mind, found) -> Callable[..., None]:
    """A video of the depot, with all that stands answered."""

    def answer(sha256: str = "1" * 64, **how: object) -> None:
        ids = registered(sha256=sha256, **{"collection": "depot", "source": "gate", **how})
        for claim in store.analyses.claim_these(ids, "w", mind.fingerprint, Settings().lease):
            store.analyses.finish(claim, found(claim.request.question))

    return answer


@pytest.fixture
def three(store: Store, answered) -> None:
    """Three hits of one question, found one day after the other, the last of them today."""
    store.standing.add(Standing(QUESTION, "depot"))
    for number in (1, 2, 3):
        answered(f"{number}" * 64, recorded_at=EIGHT + timedelta(hours=number))
        _change(store, number, found_at=datetime.now(UTC) - timedelta(days=3 - number))


def _change(store: Store, hit: int, **values: object) -> None:
    with Session(store.engine) as session, session.begin():
        row = session.get_one(HitRow, hit)
        for name, value in values.items():
            setattr(row, name, value)


# Looking at them.


@both
def test_hits_are_shown_the_latest_last(videomind: Callable, store: Store, answered):
    store.standing.add(Standing(QUESTION, "depot"))
    store.standing.add(Standing("What moves?", "depot"))
    answered(recorded_at=EIGHT)
    code, out, err = videomind("hits")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    where = "1  2026-03-01 08:00:01 UTC  depot/gate  door.mp4  0:01.0 - 0:01.6"
    assert first == f"{where}  0.70  Who comes in?  through the door"
    assert "What moves?" in second


@both
def test_in_json_a_hit_is_what_webhooks_are_told_and_what_became_of_that(
    videomind: Callable, store, answered
):
    store.standing.add(Standing(QUESTION, "depot", webhook_url=WEBHOOK))
    answered(recorded_at=EIGHT)
    (row,) = _lines(videomind("hits", "--json")[1])
    delivery = {"state": "pending", "attempts": 0, "delivered_at": None, "error": None}
    assert (row.pop("hit_id"), row.pop("delivery")) == (1, delivery)
    folder = Path(contract.__file__).parent
    schema = json.loads((folder / "hit.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(row)
    assert row["starts_at"] == "2026-03-01T08:00:01+00:00"
    assert row == store.hits.latest()[0].told()


@both
def test_where_nothing_was_found_that_is_said(videomind: Callable, store: Store):
    standing = store.standing.add(Standing(QUESTION, "depot"))
    for how in ((), ("--json",), ("--dead",), ("--standing", standing), ("--since", "2026-03-01T00:00Z")):
        assert videomind("hits", *how) == (0, "", "videomind: nothing found\n")


@both
def test_hits_are_chosen_by_when_they_were_found_and_of_these_the_last_are_shown(videomind: Callable, three):
    def shown(*how: object) -> list[int]:
        return [row["hit_id"] for row in _lines(videomind("hits", "--json", *how)[1])]

    now = datetime.now(UTC)
    assert shown() == [1, 2, 3]
    assert shown("--limit", 2) == [2, 3]
    assert shown("--since", (now - timedelta(days=1, hours=1)).isoformat()) == [2, 3]
    assert shown("--since", (now - timedelta(days=1, hours=1)).isoformat(), "--limit", 1) == [3]
    assert shown("--since", (now + timedelta(hours=1)).isoformat()) == []


@both
def test_hits_of_one_question_are_shown(videomind: Callable, store: Store, three, answered):
    other = store.standing.add(Standing("What moves?", "depot"))
    answered("4" * 64, recorded_at=EIGHT + timedelta(hours=4))
    asked = [row["standing_question"] for row in _lines(videomind("hits", "--standing", other, "--json")[1])]
    assert asked == [{"id": other, "question": "What moves?"}]


def test_what_is_not_known_of_a_hit_is_left_out(videomind: Callable, store: Store, answered):
    store.standing.add(Standing(QUESTION, "depot"))
    answered(source=None)
    assert videomind("hits")[1].startswith("1  depot  door.mp4  0:01.0")
    (row,) = _lines(videomind("hits", "--json")[1])
    assert (row["camera"]["source"], row["starts_at"], row["ends_at"]) == (None, None, None)


def test_neither_secrets_of_a_url_nor_control_characters_come_to_the_terminal(
    videomind: Callable, store: Store, answered
):
    store.standing.add(Standing("Who\x1b[31m?", "depot", webhook_url=WEBHOOK))
    answered(uri="https://cam:hidden@host/0800.mp4?key=hidden")
    _change(store, 1, delivery_error="https://host/?token=hidden: \x1b[2J no answer")
    for out in (videomind("hits")[1], videomind("hits", "--json")[1]):
        assert "0800.mp4" in out
        assert "no answer" in out
        assert "hidden" not in out
        assert "\x1b" not in out


@both
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--standing", 7), 3, "no standing question 7: see `videomind standing list`"),
        (("--standing", 7, "--follow"), 3, "no standing question 7"),
        (("--standing", HUGE), 2, "--standing"),
        (("--standing", 0), 2, "--standing"),
        (("--since", "yesterday"), 2, "is no time"),
        (("--since", "2026-03-01T08:00"), 2, "no time zone"),
        (("--since", "9999-12-31T23:59-14:00"), 2, "is no time"),
        (("--limit", 0), 2, "--limit"),
        (("--limit", 1001), 2, "--limit"),
        (("--follow", "--dead"), 2, "--dead"),
        (("--database", "nonsense"), 3, "not a usable database URL"),
        (("retry",), 2, "give hits, or --dead"),
        (("retry", 1, "--dead"), 2, "give hits, or --dead"),
        (("retry", HUGE), 2, "ID"),
        (("retry", "all"), 2, "ID"),
    ],
)
def test_what_cannot_be_is_told(videomind: Callable, store, arguments: tuple, code: int, told: str):
    found, out, err = videomind("hits", *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


# Delivering them after all.


@both
def test_what_was_given_up_is_shown_with_its_reason_and_tried_again(
    videomind: Callable, store: Store, answered
):
    store.standing.add(Standing(QUESTION, "depot", webhook_url=WEBHOOK))
    for number in (1, 2, 3):
        answered(f"{number}" * 64, recorded_at=EIGHT + timedelta(hours=number))
    assert videomind("hits")[1].splitlines()[0].endswith("  pending")
    assert videomind("hits", "--dead")[1] == ""
    for number in (1, 2):
        _change(store, number, delivery_state="dead", deliver_at=None, delivery_error="no answer")
    dead = videomind("hits", "--dead")[1].splitlines()
    assert [line.endswith("  dead: no answer") for line in dead] == [True, True]
    assert [row["hit_id"] for row in _lines(videomind("hits", "--dead", "--json", "--limit", 1)[1])] == [2]
    assert videomind("hits", "retry", 1) == (0, "1 will be tried again\n", "")
    assert videomind("hits", "retry", "--dead") == (0, "1 will be tried again\n", "")
    assert videomind("hits", "retry", "--dead") == (0, "0 will be tried again\n", "")
    assert [(hit.delivery_state, hit.attempts) for hit in store.hits.latest()] == [("pending", 0)] * 3


def test_what_was_not_given_up_is_not_tried_again_and_that_is_said(videomind: Callable, store, answered):
    store.standing.add(Standing(QUESTION, "depot", webhook_url=WEBHOOK))
    answered()
    _change(store, 1, delivery_state="dead", deliver_at=None)
    code, out, err = videomind("hits", "retry", 1, 7, 8, 8)
    assert (code, out) == (0, "1 will be tried again\n")
    assert "2 of them were not given up" in err


@pytest.mark.parametrize("given", [("--database", "sqlite:///elsewhere.db"), ("--dead",), ("--json",)])
def test_an_option_that_would_not_count_is_refused(videomind: Callable, store, answered, given: tuple):
    store.standing.add(Standing(QUESTION, "depot", webhook_url=WEBHOOK))
    answered()
    _change(store, 1, delivery_state="dead", deliver_at=None)
    code, out, err = videomind("hits", *given, "retry", 1)
    assert (code, out) == (2, "")
    assert given[0] in err
    assert store.hits.latest()[0].delivery_state == "dead"


# Following them.


@pytest.fixture
def follow(url: str) -> Iterator[Callable[..., Command]]:
    """Starts a process that shows new hits as they come."""
    started: list[Command] = []

    def start(*how: object) -> Command:
        started.append(commands.start("hits", "--follow", "--json", "--database", url, *how))
        return started[-1]

    yield start
    for process in started:
        process.end()


def _next(following: Command) -> int:
    patience = threading.Timer(120, following.kill)  # or else a hit that never comes would be waited for
    patience.start()
    line = following.stdout.readline()
    patience.cancel()
    return json.loads(line)["hit_id"]


@pytest.fixture
def begun(store: Store, answered, follow) -> Command:
    """Such a process, which has shown the first one."""
    store.standing.add(Standing(QUESTION, "depot"))
    answered("1" * 64, recorded_at=EIGHT)
    following = follow()
    assert _next(following) == 1
    return following


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_new_hits_are_shown_as_they_come_until_somebody_interrupts(store, answered, follow, number: int):
    store.standing.add(Standing(QUESTION, "depot"))
    answered("1" * 64, recorded_at=EIGHT)
    following = follow()
    shown = [_next(following)]
    for hour in (2, 3):
        answered(f"{hour}" * 64, recorded_at=EIGHT + timedelta(hours=hour))
        shown.append(_next(following))
    following.send_signal(number)
    rest, err = following.communicate(timeout=60)
    assert shown == [1, 2, 3]
    assert (following.returncode, rest) == (130, "")
    assert err == "videomind: interrupted\n"


def test_only_what_was_asked_for_is_followed(store: Store, answered, follow, three):
    other = store.standing.add(Standing("What moves?", "depot"))
    answered("4" * 64, recorded_at=EIGHT + timedelta(hours=4))
    following = follow("--standing", other, "--limit", 1)
    (first,) = store.hits.latest(other)
    assert _next(following) == first.id
    answered("5" * 64, recorded_at=EIGHT + timedelta(hours=5))
    assert _next(following) == store.hits.latest(other)[-1].id


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_was_written_first_and_is_seen_last_is_shown_too(store: Store, answered, begun):
    with Session(store.engine) as slow:
        copied = [column for column in HitRow.__table__.columns if column.name not in ("id", "event_id")]
        another = select(func.replace(HitRow.event_id, "-", "x"), *copied)
        names = ["event_id", *(column.name for column in copied)]
        first = slow.scalar(insert(HitRow).from_select(names, another).returning(HitRow.id))
        answered("2" * 64, recorded_at=EIGHT + timedelta(hours=2))
        assert _next(begun) > first
        slow.commit()
    assert _next(begun) == first


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_database_that_is_away_for_a_while_is_waited_for(store: Store, answered, begun):
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE hits RENAME TO away"))
    assert begun.stderr.readline().startswith("videomind: waiting: database ")
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE away RENAME TO hits"))
    answered("2" * 64, recorded_at=EIGHT + timedelta(hours=2))
    assert _next(begun) == 2
