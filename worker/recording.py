"""When a recording began, and what told: whoever submitted it, its file's name, or the container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from vm.errors import QuestionError
from worker.jobs import Origin

LONGEST_PATTERN = 200
"""Characters of a pattern, and so a bound on the work of searching a name for it."""

# The pattern is the operator's, and the name anybody's: every directive matches a bounded number of
# digits or letters, so that a search takes no longer than name times pattern.
_DIRECTIVES = {
    "%Y": r"(?P<Y>(?:19|20|21)[0-9]{2})",
    "%y": r"(?P<y>[0-9]{2})",
    "%m": r"(?P<m>0[1-9]|1[0-2])",
    "%d": r"(?P<d>0[1-9]|[12][0-9]|3[01])",
    "%H": r"(?P<H>[01][0-9]|2[0-3])",
    "%I": r"(?P<I>0[1-9]|1[0-2])",
    "%p": r"(?P<p>[AaPp][Mm])",
    "%M": r"(?P<M>[0-5][0-9])",
    "%S": r"(?P<S>[0-5][0-9])",
    "%f": r"(?P<f>[0-9]{1,6})",
    "%z": r"(?P<z>Z|[+-][01][0-9]:?[0-5][0-9])",
    "%%": "%",
}
_DATES = ("Ymd", "ymd")
_TIMES = ("", "H", "HM", "HMS", "HMSf", "Ip", "IMp", "IMSp", "IMSfp")
_NEVER_SET = 1980
"""Cameras whose clock was never set write 1904 or 1970, where their formats' time begins."""


def recorded_at(
    argument: datetime | None,
    name: str,
    pattern: str | None,
    time_zone: str | None,
    container_time: datetime | None,
) -> tuple[datetime, Origin] | None:
    """When the recording began, in UTC, and what told; None: nothing does.

    Args:
        argument: what the submission says; without a zone, it is in `time_zone`.
        name: the file's name.
        pattern: how the source writes the time into its files' names, as for `strptime`, like
            `cam3_%Y-%m-%d_%H-%M-%S`; it may be found anywhere in the name.
        time_zone: where the source is, like `Europe/Berlin`; None: UTC. An hour that comes twice when
            the clocks go back is taken as the first, one that is left out as if they had not gone forward.
        container_time: what the file itself says.

    Raises:
        QuestionError: a pattern or a time zone that does not exist.
    """
    zone = _zone(time_zone)
    if argument is not None:
        return _instant(argument, zone), "argument"
    told = None if pattern is None else _in_name(name, pattern, zone)
    if told is not None:
        return told, "filename"
    if container_time is not None and container_time.year >= _NEVER_SET:
        return _instant(container_time, UTC), "container"
    return None


def _in_name(name: str, pattern: str, zone: tzinfo) -> datetime | None:
    """The first time in the name that the calendar has."""
    expression = _compiled(pattern)
    for found in _every_match(expression, name):
        try:
            return _instant(datetime.strptime(*_spelled(found)), zone)
        except ValueError:
            continue
    return None


def _every_match(expression: re.Pattern[str], name: str) -> Iterator[re.Match[str]]:
    """Matches, overlapping ones too: what looks like a time may begin one digit too early."""
    found = expression.search(name)
    while found is not None:
        yield found
        found = expression.search(name, found.start() + 1)


def _spelled(found: re.Match[str]) -> tuple[str, str]:
    """The parts of a match, and the `strptime` format for just these."""
    parts = found.groupdict()
    return " ".join(parts.values()), " ".join(f"%{letter}" for letter in parts)


def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression in which everything but the directives stands for itself.

    Raises:
        QuestionError: an unknown or repeated directive, or no complete date and time.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise QuestionError(f"the file name pattern has more than {LONGEST_PATTERN} characters: shorten it")
    parts = re.findall(r"%.?|[^%]+", pattern, re.DOTALL)
    unknown = [part for part in parts if part[0] == "%" and part not in _DIRECTIVES]
    if unknown:
        known = " ".join(_DIRECTIVES)
        raise QuestionError(f"the file name pattern has {unknown[0]!a}, which is none of {known}")
    letters = [part[1] for part in parts if part[0] == "%" and part != "%%"]
    if len(letters) > len(set(letters)):
        raise QuestionError(f"the file name pattern {pattern!a} has a directive twice: write each once")
    if not _is_complete(set(letters)):
        raise QuestionError(f"the file name pattern {pattern!a} gives no time: write it like %Y%m%d_%H%M%S")
    return re.compile("".join(_DIRECTIVES.get(part) or re.escape(part) for part in parts))


def _is_complete(letters: set[str]) -> bool:
    """Whether a date is there, and of the time nothing without what is above it."""
    wanted = letters - {"z"}
    return any(wanted == set(date + clock) for date in _DATES for clock in _TIMES)


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        raise QuestionError(f"no such time zone: {name!a}. Write it like Europe/Berlin") from error


def _instant(time: datetime, zone: tzinfo) -> datetime:
    """In UTC. A time without a zone is one in `zone`.

    Raises:
        QuestionError: so early or late that UTC has no date for it.
    """
    try:
        return (time if time.tzinfo is not None else time.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError as error:
        raise QuestionError(f"{time} is no time of a recording: check the year") from error
