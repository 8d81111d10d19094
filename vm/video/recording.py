"""When a recording began, as its container's tags tell. Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

# Phones write local time with its zone into the first; the second is UTC, and often all there is.
_ZONED, _UTC = "com.apple.quicktime.creationdate", "creation_time"
# No camera wrote such files before; a clock that was never set says 1904 or 1970.
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# Matroska counts from here, so that this is its way to say nothing.
_MATROSKA_ZERO = datetime(2001, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER = timedelta(days=1)
_DATE_ALONE = len("2001-01-01")


def recorded_at(*tags: Mapping[str, str]) -> datetime | None:
    """The start of a recording, with its zone; None where nothing plausible is said.

    Args:
        tags: the container's, then those of its video stream; the first that tells is believed.
    """
    lowered = [{name.lower(): text for name, text in each.items()} for each in tags]
    zoned = (_instant(each.get(_ZONED, "")) for each in lowered)
    in_utc = (_instant(each.get(_UTC, ""), assume_utc=True) for each in lowered)
    return next((when for when in (*zoned, *in_utc) if when), None)


def is_plausible(when: datetime) -> bool:
    """Whether a recording can have begun then; `when` has a zone."""
    return _EARLIEST <= when <= datetime.now(UTC) + _CLOCKS_DIFFER and when != _MATROSKA_ZERO


def _instant(text: str, assume_utc: bool = False) -> datetime | None:
    text = text.strip()
    if len(text) <= _DATE_ALONE:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    if assume_utc and when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return when if when.tzinfo and is_plausible(when) else None
