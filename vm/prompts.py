"""A checkpoint's role prompts and special tokens, and chat text to token ids. Knows no weights.

`roles.json` beside the weights holds what a checkpoint was trained with:

    {"special_tokens": {"reg": "<|reg|>", "seg_start": "…", "seg_end": "…"},
     "roles": {"planner": {"prompt": "… '{}' …", "frame_rate": 1.0, "max_frames": 100,
                           "min_pixels": 28224, "max_pixels": 50176, "max_new_tokens": 256},
               "answerer": {"min_seconds": 32.0}, …}}

Only prompts are required; budgets default to the published ones. A role of one's own is one more entry,
and a folder with its adapter; its budgets default to the answerer's.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vm.config import PUBLISHED_ROLES, RoleSettings
from vm.errors import CheckpointError, InvalidRoles, MissingRole

ROLES_FILE = "roles.json"
PROMPTED_ROLES = ("planner", "grounder", "verifier")
ROLE_NAME = re.compile(r"(?!base$)[a-z][a-z0-9_-]{0,31}", re.ASCII)  # it names a folder, as `base` does
_WHOLE_NUMBERS = ("max_frames", "min_pixels", "max_pixels", "max_new_tokens")


@dataclass(frozen=True)
class RoleBook:
    """Each role's settings, and the texts of the three tokens VideoMind adds."""

    roles: Mapping[str, RoleSettings]
    reg: str = "<|reg|>"
    seg_start: str = "<|seg_start|>"
    seg_end: str = "<|seg_end|>"

    def settings(self, role: str) -> RoleSettings:
        """Raises: MissingRole."""
        try:
            return self.roles[role]
        except KeyError:
            raise MissingRole(f"{ROLES_FILE} has no role {role!r}; it has {', '.join(self.roles)}") from None

    def prompt(self, role: str, text: str) -> str:
        return self.settings(role).prompt.format(text)


def load_role_book(checkpoint: Path, adapters: Collection[str] = ()) -> RoleBook:
    """Read and check `roles.json`.

    Args:
        adapters: the roles the checkpoint has weights for, which must have their prompts.

    Raises:
        InvalidRoles: the file is missing, is not JSON, holds something it should not, or lacks a prompt.
    """
    path = checkpoint / ROLES_FILE
    if not path.is_file():
        raise InvalidRoles(
            f"{path} is missing: a checkpoint carries its prompts there. For published weights make it with "
            f"`videomind import-checkpoint {checkpoint} --constants path/to/videomind/constants.py`"
        )
    try:
        return parse_role_book(json.loads(path.read_text(encoding="utf-8")), adapters)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InvalidRoles(f"{path}: {error}") from error


def parse_role_book(content: Any, adapters: Collection[str] = ()) -> RoleBook:
    """Raises: ValueError or TypeError saying what is wrong."""
    _only(content, {"special_tokens", "roles"}, "roles.json")
    tokens = content.get("special_tokens", {})
    _only(tokens, {"reg", "seg_start", "seg_end"}, "special_tokens")
    if not all(isinstance(token, str) and token for token in tokens.values()):
        raise ValueError("special_tokens must be texts")
    given = content.get("roles", {})
    _only(given, {*PUBLISHED_ROLES, *filter(ROLE_NAME.fullmatch, given)}, "roles")
    own = [name for name in given if name not in PUBLISHED_ROLES]
    roles = {name: _role_settings(name, given.get(name, {})) for name in (*PUBLISHED_ROLES, *own)}
    for name in (*PROMPTED_ROLES, *own):
        if (name in adapters or name in own) and "prompt" not in given.get(name, {}):
            raise ValueError(f"{name} has no prompt")
    return RoleBook(roles, **tokens)


def _role_settings(name: str, given: Any) -> RoleSettings:
    _only(given, {field.name for field in fields(RoleSettings)}, name)
    if broken := [key for key in _WHOLE_NUMBERS if type(given.get(key, 0)) is not int]:
        raise ValueError(f"{broken[0]} of {name} must be a whole number")
    settings = RoleSettings(**{**vars(PUBLISHED_ROLES.get(name, PUBLISHED_ROLES["answerer"])), **given})
    # Formatting instructions could make a text of any length.
    placeholders = [field for _, *field in string.Formatter().parse(settings.prompt) if field[0] is not None]
    if placeholders not in ([["", "", None]], [["0", "", None]]):
        raise ValueError(f"the prompt of {name} must have exactly one placeholder {{}}")
    return settings


def _only(content: Any, allowed: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be an object")
    if unknown := set(content) - allowed:
        raise ValueError(f"{where} has unknown entries: {', '.join(sorted(unknown))}")


@dataclass(frozen=True)
class ChatPrompt:
    """A chat message around one video, as token ids.

    `before` ends with `<|vision_start|>`, `after` begins with `<|vision_end|>`; the video goes between.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]


class ChatTokenizer:
    """Turns a role's prompt into token ids, and token ids into text.

    Args:
        tokenizer: the checkpoint's, a transformers fast tokenizer.
        chat_template: the checkpoint's Jinja chat template.
    """

    def __init__(self, tokenizer: Any, chat_template: str, video_token: str) -> None:
        self._tokenizer = tokenizer
        self._chat_template = chat_template
        self._video_token = video_token
        self._special = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)

    def chat(self, prompt: str, answer_prefix: str = "") -> ChatPrompt:
        """The user's message (one video, then `prompt`), up to where the model is to write.

        Raises:
            CheckpointError: the chat template fails, or has no place for a video.
        """
        message = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}]
        try:
            text = self._tokenizer.apply_chat_template(
                message, chat_template=self._chat_template, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, and may fail in any way
            raise CheckpointError(f"the chat template does not work: {error}") from error
        before, found, after = (text + answer_prefix).partition(self._video_token)
        if not found:
            raise CheckpointError(f"the chat template leaves no place for the video ({self._video_token})")
        return ChatPrompt(self.encode(before), self.encode(after))

    def plain(self, text: str) -> str:
        """`text` with nothing in it that the tokenizer would read as a special token.

        Questions, queries and subtitles come from outside; a control token in them could end the
        message or stand for a video that is not there.
        """
        for token in self._special:
            text = text.replace(token, token[:1] + " " + token[1:])
        return text

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def token_id(self, text: str) -> int:
        """The id of a text that is one token.

        Raises:
            CheckpointError: it is not one token in this vocabulary.
        """
        ids = self.encode(text)
        if len(ids) != 1:
            raise CheckpointError(f"{text!r} is not a single token of the checkpoint's tokenizer")
        return ids[0]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text. Special tokens in it are read as such; see `plain`."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
