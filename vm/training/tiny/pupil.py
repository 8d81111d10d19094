"""The tiny model's tokenizer, and how its lessons are written with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from vm.prompts import ChatTokenizer
from vm.training.lessons import Example, Lesson
from vm.training.tiny.bank import Footprint
from vm.training.tiny.sizes import CHAT_TEMPLATE, ROLES, SPECIAL_TOKENS


@dataclass(frozen=True)
class Pupil:
    """The tokenizer, and what is written with it."""

    chat: ChatTokenizer
    end: int

    @classmethod
    def load(cls, folder: Path) -> Pupil:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        chat = ChatTokenizer(tokenizer, CHAT_TEMPLATE, "<|video_pad|>")
        return cls(chat, chat.token_id("<|im_end|>"))

    @property
    def special_ids(self) -> dict[str, int]:
        return {text: self.chat.token_id(text) for text in SPECIAL_TOKENS}

    def example(
        self, prompt: str, reply: str, begun: str = "", spans: Sequence[tuple[float, float]] = ()
    ) -> Example:
        """Args: begun: the beginning of the reply, given and not learnt."""
        asked = self.chat.chat(prompt, begun)
        return Example(asked.after, (*self.chat.encode(reply), self.end), tuple(spans))

    def role_example(
        self, role: str, text: str, reply: str, spans: Sequence[tuple[float, float]] = ()
    ) -> Example:
        """A role's prompt over `text`, and its reply."""
        return self.example(str(ROLES[role]["prompt"]).format(text), reply, spans=spans)

    def lesson(
        self,
        features: Tensor,
        footprint: Footprint,
        examples: Sequence[Example],
        marked: tuple[int, int] | None = None,
    ) -> Lesson:
        """Args: features: (T, H·W, hidden), a view of the footprint."""
        grid = footprint.token_grid(features)
        return Lesson(features.float(), grid, self.chat.chat("").before, tuple(examples), marked)
