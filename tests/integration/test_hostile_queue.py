"""A queue of which a third is made to do harm: each of that ends with its own error, all others succeed."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from pathlib import Path

from tests.integration.farm import Farm, web
from tests.integration.inputs import BAD, DECODER_BYTES, MOST_BYTES, ODD, Place
from tests.vm.video.conftest import write_video

ASKED = [{"question": "Who?"}]
DEEDS = {"crash decoder": "quarantined", "hang decoder": "decode_timeout"}
MESSAGES = {
    "a number for a URI": {"uri": 7},
    "a question that is no list": {"questions": "Who?"},
    "an empty question": {"questions": [{"question": " "}]},
    "a question of no text": {"questions": [{"question": "a\0"}]},
    "another version": {"version": 2},
    "a time of no zone": {"recorded_at": "2026-03-01T08:00:00"},
    "a field of no meaning": {"colour": "red"},
}
NO_MESSAGES = [b"no JSON at all", b"{}", b"[" * 100_000, b"\xff\xfe"]
"""They end the process that takes them from the queue."""
HOSTILE = len(BAD) + len(DEEDS) + len(MESSAGES) + len(NO_MESSAGES)
GOOD = HOSTILE * 7 // 3 - len(ODD)

Ended = tuple[str, str | None]


def test_all_that_is_bad_ends_with_its_own_error_and_all_that_is_good_succeeds(farm: Farm, tmp_path: Path):
    place = Place(tmp_path / "media", tmp_path / "elsewhere")
    for folder in (place.folder, place.elsewhere):
        folder.mkdir()
    farm.variables = {
        "FAKE_READS": "yes",
        "VIDEOMIND_MEDIA_ROOTS": str(place.folder),
        "VIDEOMIND_MAX_BYTES": str(MOST_BYTES),
        "VIDEOMIND_DECODER_BYTES": str(DECODER_BYTES),
        "VIDEOMIND_FETCH_SECONDS": "2",
    }
    farm.keeps = True
    with web(place.answer) as place.web:
        sent = _submissions(place)
        random.Random(1).shuffle(sent)
        _send(farm, sent, tmp_path / "unpickled")
        farm.start("ingest", "fetch-1", "fetch-2", "analyse", "beat")
        farm.wait(lambda: _has_ended(farm, len(sent)))
    found = _found(farm)
    assert {key: found[key][:2] for key in BAD} == {key: ("failed", bad.code) for key, bad in BAD.items()}
    assert {key: found[key][2] for key, bad in BAD.items() if bad.told not in found[key][2]} == {}
    assert {key: found[key][:2] for key in DEEDS} == {key: ("failed", code) for key, code in DEEDS.items()}
    assert {found[key][:2] for key in MESSAGES} == {("failed", "invalid_message")}
    good = set(found) - {*BAD, *DEEDS, *MESSAGES}
    assert {found[key][:2] for key in good} == {("succeeded", None)}
    assert len(good) == GOOD + len(ODD)
    assert {key: found[key][3] for key, odd in ODD.items() if odd.told not in found[key][3]} == {}
    assert not (tmp_path / "unpickled").exists()
    assert "/listed" not in place.asked
    assert farm.orphans() == []


def _submissions(place: Place) -> list[dict]:
    """The arguments of all messages, each with a key."""
    clip = write_video(place.path("clip.mp4"), times=range(20)).read_bytes()
    uris = {key: each.make(place, key.replace(" ", "-")) for key, each in {**ODD, **BAD}.items()}
    sent = [{"key": key, "uri": str(uri), "questions": ASKED} for key, uri in uris.items()]
    sound = {"uri": str(place.path("clip.mp4")), "questions": ASKED}
    sent += [{"key": key, **sound, **wrong} for key, wrong in MESSAGES.items()]
    for key in (*DEEDS, *map(str, range(GOOD))):
        path = place.path(f"{key}.mp4")
        path.write_bytes(clip + (8 + len(key)).to_bytes(4) + b"skip" + key.encode())
        sent.append({"key": key, "uri": path.as_uri(), "questions": [{"question": key}]})
    return sent


class _Code:
    """What unpickles to a command that is run."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self._trace,)


def _send(farm: Farm, sent: Sequence[dict], trace: Path) -> None:
    for number, arguments in enumerate(sent):
        farm.client.send_task("videomind.submit", kwargs={"version": 1, **arguments}, queue="ingest")
        if number < len(NO_MESSAGES):
            farm.broker.client().lpush("ingest", NO_MESSAGES[number])
    farm.client.send_task("videomind.submit", args=(_Code(trace),), queue="ingest", serializer="pickle")
    farm.client.send_task("videomind.nosuch", queue="ingest")
    pickle.loads(pickle.dumps(_Code(trace)))
    assert trace.exists(), "it would do so"
    trace.unlink()


def _has_ended(farm: Farm, count: int) -> bool:
    """What waits to be tried again need not wait long."""
    for table in ("submissions", "analyses"):
        farm.rows(f"UPDATE {table} SET not_before = NULL WHERE state = 'queued' RETURNING id")
    open_ones = sum(
        number
        for table in ("submissions", "analyses")
        for state, number in farm.states(table).items()
        if state in ("queued", "running")
    )
    return not open_ones and farm.rows("SELECT count(*) FROM submissions") == [(count,)]


def _found(farm: Farm) -> dict[str, tuple[str, str | None, str, str]]:
    """By key: state, error code and message, and warnings; of the analysis, if it came to that."""
    rows = farm.rows(
        "SELECT key, coalesce(analyses.state, submissions.state), "
        "coalesce(analyses.error_code, submissions.error_code), "
        "coalesce(analyses.error_message, submissions.error_message), warnings FROM submissions "
        "LEFT JOIN requests ON submission_id = submissions.id LEFT JOIN analyses ON analyses.id = analysis_id"
    )
    return {key: (state, code, message or "", str(warnings)) for key, state, code, message, warnings in rows}
