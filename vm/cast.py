"""The roles' common ground: one backbone, the checkpoint's prompts and how a role is asked something."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vm.config import RoleSettings
from vm.footage import Footage, Prefix, View
from vm.model.backbone import Backbone
from vm.moments import Span
from vm.prompts import ChatPrompt, ChatTokenizer, RoleBook


@dataclass(frozen=True)
class Cast:
    """Everything a role needs but the video.

    `reg`, `yes` and `no` are token ids.
    """

    backbone: Backbone
    book: RoleBook
    chat: ChatTokenizer
    reg: int
    yes: int
    no: int

    def has(self, role: str) -> bool:
        return role in self.backbone.roles

    def settings(self, role: str) -> RoleSettings:
        return self.book.settings(role)

    @contextmanager
    def playing(self, role: str, footage: Footage) -> Iterator[None]:
        """Run as `role` and book the time on it. An answerer without an adapter is the bare base."""
        adapter = None if role == "answerer" and not self.has(role) else role
        with footage.stopwatch.measure(role), self.backbone.acting_as(adapter):
            yield

    def prompt(self, role: str, text: str, reply: str = "") -> ChatPrompt:
        """The role's prompt over text from outside, up to and with the given beginning of the reply."""
        return self.chat.chat(self.book.prompt(role, self.chat.plain(text)), reply)

    def prefixes(
        self, role: str, footage: Footage, prompt: ChatPrompt, views: Sequence[View]
    ) -> list[Prefix]:
        return footage.prefixes(role, prompt.before, prompt.after[0], views)

    def write(self, role: str, footage: Footage, text: str, span: Span | None = None) -> str:
        """What the role writes, shown the span (or the whole video) and asked about `text`."""
        prompt = self.prompt(role, text)
        view = footage.view(self.settings(role), span)
        prefix = self.prefixes(role, footage, prompt, [view])[0]
        return self.chat.decode(footage.write(prefix, prompt, self.settings(role).max_new_tokens).ids)
