"""What travels around standing questions: the question, a hit, what is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from vm.errors import QuestionError
from vm.moments import Span
from vm.result import Mode
from worker.daytime import Hours
from worker.errors import InvalidRule
from worker.jobs import AskSettings, Request, check_names
from worker.masking import masked

DeliveryState = Literal["none", "pending", "delivered", "dead"]
DELIVERY_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)

VERSION = 1
"""Of what webhooks are told."""
THRESHOLD = 0.5
"""Of a hit's score, where nobody says another: the verifier finds Yes likelier than No."""
_LONGEST_URL = 2048  # characters


@dataclass(frozen=True)
class Standing:
    """A question that every new video of a collection, or of one source in it, is asked.

    Attributes:
        mode: one that finds moments: a hit is a moment.
        threshold: the least score of a hit, as `moment_view` has it: the verifier's, or the grounder's
            confidence where nothing was verified.
        active_from, active_until: which videos are asked, by when their recording began; without that, by
            when they came.
        hours: the time of day, as in 22:00-06:00 in `time_zone`, at which a hit begins. Where it is not
            known when a recording began, every hit counts.
        webhook_url: is told of every hit.

    Raises:
        InvalidRule: it says what cannot be.
    """

    question: str
    collection: str
    source: str | None = None
    options: tuple[str, ...] = ()
    mode: Mode = "ground-answer"
    settings: AskSettings = field(default_factory=AskSettings)
    threshold: float = THRESHOLD
    active_from: datetime | None = None
    active_until: datetime | None = None
    hours: str | None = None
    time_zone: str = "UTC"
    webhook_url: str | None = None

    def __post_init__(self) -> None:
        try:
            _ = Request.given(self.question, self.options, self.mode, self.settings)
            check_names(self.collection, self.source)
        except QuestionError as error:
            raise InvalidRule(str(error)) from error
        if self.mode == "answer":
            raise InvalidRule(
                "the mode answer finds no moments, and so no hits: choose ground-answer or ground"
            )
        if not 0 <= self.threshold <= 1:
            raise InvalidRule(f"a threshold of {self.threshold}: scores go from 0 to 1")
        _check_period(self.active_from, self.active_until)
        _ = self.daytime
        if self.webhook_url is not None:
            _check_url(self.webhook_url)

    @property
    def request(self) -> Request:
        """What each video is asked."""
        return Request(self.question, self.options, self.mode, self.settings)

    @property
    def daytime(self) -> Hours:
        return Hours.parse(self.hours, self.time_zone)

    def is_active(self, recorded: datetime) -> bool:
        """Whether a recording of that time is asked."""
        begun = self.active_from is None or self.active_from <= recorded
        return begun and (self.active_until is None or recorded < self.active_until)

    def is_hit(self, score: float, fallback: bool, starts_at: datetime | None) -> bool:
        """Whether a moment is one. What only stands in for a moment is none."""
        timely = starts_at is None or self.daytime.contain(starts_at)
        return score >= self.threshold and not fallback and timely


@dataclass(frozen=True)
class Kept:
    """A standing question in the store, and how many hits it has."""

    id: int
    standing: Standing
    enabled: bool
    created_at: datetime
    hits: int

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        asked = self.standing
        return {
            "standing_id": self.id,
            "enabled": self.enabled,
            "collection": asked.collection,
            "source": asked.source,
            "question": asked.question,
            "options": list(asked.options),
            "mode": asked.mode,
            "window": asked.settings.window,
            "threshold": asked.threshold,
            "active_from": _text(asked.active_from),
            "active_until": _text(asked.active_until),
            "hours": asked.hours,
            "time_zone": asked.time_zone,
            "webhook_url": asked.webhook_url and masked(asked.webhook_url),
            "hits": self.hits,
        }


@dataclass(frozen=True)
class Hit:
    """An event that was seen, in the video that shows it best; the instants reach over all that show it.

    Attributes:
        event_id: is the same whenever the event is told.
        collection, source: where it was seen: the standing question's collection, the video's source.
        answer: the best sighting's, where it was asked for.
        error: why the last delivery failed.
    """

    id: int
    event_id: str
    standing_id: int
    question: str
    collection: str
    source: str | None
    video_id: int
    uri: str
    span: Span
    starts_at: datetime | None
    ends_at: datetime | None
    score: float
    answer: str | None
    found_at: datetime
    delivery_state: DeliveryState
    attempts: int
    delivered_at: datetime | None
    error: str | None

    def told(self) -> dict[str, Any]:
        """What a webhook is sent: see `worker/contract/hit.schema.json`."""
        return {
            "version": VERSION,
            "event_id": self.event_id,
            "standing_question": {"id": self.standing_id, "question": self.question},
            "camera": {"collection": self.collection, "source": self.source or None},
            "video": {"id": self.video_id, "uri": masked(self.uri)},
            "start_seconds": self.span.start,
            "end_seconds": self.span.end,
            "starts_at": _text(self.starts_at),
            "ends_at": _text(self.ends_at),
            "score": self.score,
            "answer": self.answer,
            "found_at": _text(self.found_at),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same, and what became of its delivery."""
        delivery = {
            "state": self.delivery_state,
            "attempts": self.attempts,
            "delivered_at": _text(self.delivered_at),
            "error": self.error,
        }
        return {"hit_id": self.id, **self.told(), "delivery": delivery}


@dataclass(frozen=True)
class Footage:
    """A stored video that a question could be tried on.

    `began` is when the recording began, or else when the video came; `duration` is in seconds.
    """

    video_id: int
    uri: str
    sha256: str
    source_id: int | None
    duration: float
    began: datetime
    recorded_at: datetime | None


def _check_period(since: datetime | None, until: datetime | None) -> None:
    if any(bound is not None and bound.tzinfo is None for bound in (since, until)):
        raise InvalidRule("a time has no zone: add it, as in 2026-03-01T08:00:00+01:00")
    if since and until and until <= since:
        raise InvalidRule(f"it would end at {until}, before it begins at {since}")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRule("the webhook is no URL: write it like https://host/path")
    if parts.username or parts.password:
        raise InvalidRule("a webhook takes no user and password: what it is sent is signed")


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
