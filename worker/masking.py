"""URLs without what is secret in them: for whatever is shown, never for what is stored or connected to."""

from __future__ import annotations

import re

HIDDEN = "***"

# People write passwords as they are: with a slash in it only what has no port's look is one.
_URL = re.compile(
    r"(?<=://)(?P<user>[^\s/?#]*@|[^\s/?#@:]*:(?!\d{1,5}[/?#])\S*@)?"
    r"(?P<place>[^\s\"'<>?]*)(?P<query>\?[^\s\"'<>#]*)?"
)
_VALUE = re.compile(r"(?<=[?&])([^=&]*)=[^&]+")


def masked(text: str) -> str:
    """A text whose URLs have no password, and no value in their query: a signed URL opens without any
    password. A user without a password may be a token, and is hidden as well."""
    return _URL.sub(_without_secrets, text) if "://" in text else text


def _without_secrets(url: re.Match[str]) -> str:
    user, place, query = url.groups(default="")
    name, colon, _ = user.partition(":")
    shown = f"{name}:{HIDDEN}@" if colon else user and f"{HIDDEN}@"
    return shown + place + _VALUE.sub(rf"\1={HIDDEN}", query)
