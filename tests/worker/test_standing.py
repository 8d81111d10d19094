import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from vm.moments import Span
from worker.errors import InvalidRule
from worker.jobs import Request
from worker.standing import Hit, Standing

NIGHT = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
STANDING = Standing("Who climbs the fence?", "depot")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": " "}, "empty"),
        ({"question": "a\0"}, "valid text"),
        ({"mode": "answer"}, "no moments"),
        ({"mode": "guess"}, "mode"),
        ({"options": ("one",)}, "options"),
        ({"options": ("one", " ")}, "options"),
        ({"collection": ""}, "name"),
        ({"source": "s" * 201}, "name"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"active_from": datetime(2026, 1, 1)}, "zone"),
        ({"active_from": NIGHT, "active_until": NIGHT}, "before it begins"),
        ({"hours": "22-6"}, "hours"),
        ({"hours": "22:00-06:00", "time_zone": "Mars/Base"}, "time zone"),
        ({"webhook_url": "file:///etc/passwd"}, "no URL"),
        ({"webhook_url": "https://"}, "no URL"),
        ({"webhook_url": "https://host:port/"}, "no URL"),
        ({"webhook_url": "https://me:secret@host/"}, "user and password"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, told: str):
    with pytest.raises(InvalidRule, match=told):
        replace(STANDING, **change)


def test_what_each_video_is_asked():
    asked = replace(STANDING, options=("a guard", "nobody"), mode="auto")
    assert asked.request == Request("Who climbs the fence?", ("a guard", "nobody"), "auto")


def test_the_active_period_includes_its_beginning_and_not_its_end():
    end = NIGHT + timedelta(days=1)
    standing = replace(STANDING, active_from=NIGHT, active_until=end)
    moments = (NIGHT - timedelta(seconds=1), NIGHT, end - timedelta(seconds=1), end)
    assert [standing.is_active(moment) for moment in moments] == [False, True, True, False]
    assert STANDING.is_active(NIGHT)


@pytest.mark.parametrize(
    ("score", "fallback", "starts_at", "hit"),
    [
        (0.6, False, NIGHT, True),
        (0.7, False, None, True),
        (0.59, False, NIGHT, False),
        (0.9, True, NIGHT, False),
        (0.9, False, NIGHT + timedelta(hours=8), False),
    ],
)
def test_a_hit_has_score_and_hour_and_was_found(score: float, fallback: bool, starts_at, hit: bool):
    standing = replace(STANDING, threshold=0.6, hours="22:00-06:00", time_zone="Europe/Berlin")
    assert standing.is_hit(score, fallback, starts_at) is hit


def test_a_hit_is_told_in_full_and_without_what_is_secret_in_the_videos_address():
    hit = Hit(
        id=7,
        event_id="an id",
        standing_id=3,
        question="Who climbs the fence?",
        collection="depot",
        source="gate-2",
        video_id=5,
        uri="https://cams:secret@host/a.mp4?token=secret",
        span=Span(1.5, 4.0),
        starts_at=NIGHT,
        ends_at=NIGHT + timedelta(seconds=2.5),
        score=0.7,
        answer="a guard",
        found_at=NIGHT + timedelta(minutes=5),
        delivery_state="pending",
        attempts=1,
        delivered_at=None,
        error=None,
    )
    assert hit.told() == {
        "version": 1,
        "event_id": "an id",
        "standing_question": {"id": 3, "question": "Who climbs the fence?"},
        "camera": {"collection": "depot", "source": "gate-2"},
        "video": {"id": 5, "uri": "https://cams:***@host/a.mp4?token=***"},
        "start_seconds": 1.5,
        "end_seconds": 4.0,
        "starts_at": "2026-03-01T23:30:00+00:00",
        "ends_at": "2026-03-01T23:30:02.500000+00:00",
        "score": 0.7,
        "answer": "a guard",
        "found_at": "2026-03-01T23:35:00+00:00",
    }
    unnamed = replace(hit, source="").told()["camera"]
    assert unnamed == {"collection": "depot", "source": None}
    schema = json.loads(files("worker.contract").joinpath("hit.schema.json").read_text())
    validator = Draft202012Validator(schema)
    validator.validate(hit.told())
    validator.validate(replace(hit, source=None, starts_at=None, ends_at=None, answer=None).told())
    assert json.loads(json.dumps(hit.to_dict()))["delivery"]["state"] == "pending"
