"""The language model as it learns: a lesson's tokens in one sequence, read with gradients.

`vm.model.language_model` reads the same weights faster, and only reads; this goes through
transformers' own modules, in which LoRA, dropout and gradient checkpointing work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from vm.mind import VideoMind
from vm.model.positions import rotary_positions, text_positions, video_ids
from vm.model.timestamp_decoder import TimestampDecoder, mean_frame_states
from vm.training.lesson_attention import attend_to_lessons
from vm.training.lessons import Example, Lesson
from vm.training.losses import at_least_a_frame, draw_anchor, grounding_losses


@dataclass(frozen=True)
class TokenIds:
    """Ids of the tokens that mean something to the model's code."""

    video: int
    reg: int
    seg_start: int
    seg_end: int

    @classmethod
    def of(cls, mind: VideoMind) -> TokenIds:
        """Those of a loaded checkpoint."""
        return cls(mind.cast.backbone.video_id, mind.cast.reg, *mind.markers)


@dataclass(frozen=True)
class Layout:
    """A lesson as one sequence of N tokens: the prefix, then each example's own.

    Attributes:
        ids: (N,) int64.
        positions: (3, N) int64, rotary.
        owners: (N,) int64, 0 for the prefix and i for the i-th example, from 1.
    """

    ids: Tensor
    positions: Tensor
    owners: Tensor

    def visible(self) -> Tensor:
        """(E, N) bool: which tokens (columns) each token of an example sees: the prefix and its own so far.

        Those of the prefix see what comes before them.
        """
        prefix = int((self.owners == 0).sum())
        shared = (self.owners == 0) | (self.owners[prefix:, None] == self.owners)
        return shared.tril(prefix)


@dataclass(frozen=True)
class Reading:
    """A lesson, read. States are those before the last norm.

    Attributes:
        states: (N, hidden) of the whole sequence.
        frame_states: (T, hidden) float32, the mean over each temporal patch's tokens.
        token_losses: per example (n,) float32, the cross-entropy of each token of its reply.
        reg_states: per example (hidden,), that from which the first `<|reg|>` of its reply is predicted,
            or None where there is none.
    """

    states: Tensor
    frame_states: Tensor
    token_losses: tuple[Tensor, ...]
    reg_states: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class LossSums:
    """Losses summed over `examples` examples; 0-dimensional tensors.

    An example's language loss is the mean over its reply's tokens.
    """

    language: Tensor
    classification: Tensor
    boundary: Tensor
    contrastive: Tensor
    examples: int

    @property
    def total(self) -> Tensor:
        return self.language + self.classification + self.boundary + self.contrastive

    def detached(self) -> LossSums:
        """The figures alone."""
        parts = (self.language, self.classification, self.boundary, self.contrastive)
        language, classification, boundary, contrastive = (part.detach() for part in parts)
        return LossSums(language, classification, boundary, contrastive, self.examples)

    def __add__(self, other: LossSums) -> LossSums:
        return LossSums(
            self.language + other.language,
            self.classification + other.classification,
            self.boundary + other.boundary,
            self.contrastive + other.contrastive,
            self.examples + other.examples,
        )


class Student(nn.Module):
    """A language model, its head and perhaps a timestamp decoder, to be taught.

    Args:
        text_model: transformers' `Qwen2VLTextModel`; adapters, if any, are in place and active.
        head: (vocabulary, hidden), no bias. It may share its weight with the embedding.
        tokens: the special tokens' ids.
        decoder: taught wherever an example has spans; without one spans are left aside.
        own_embeddings: whether embedding and head belong to the adapter, not to the base.
    """

    def __init__(
        self,
        text_model: Any,
        head: nn.Linear,
        tokens: TokenIds,
        decoder: TimestampDecoder | None = None,
        own_embeddings: bool = False,
    ) -> None:
        super().__init__()
        attend_to_lessons(text_model)
        self.text_model = text_model
        self.head = head
        self.tokens = tokens
        self.decoder = decoder
        self.own_embeddings = own_embeddings

    def save_memory(self) -> None:
        """Keep less for the way back, and compute it twice (gradient checkpointing)."""
        self.text_model.activation_checkpointing_enable({"use_reentrant": False})

    def forward(self, lessons: Sequence[Lesson]) -> LossSums:
        """The losses of several lessons (at least one), added up."""
        return reduce(add, (self.losses(lesson, self.read(lesson)) for lesson in lessons))

    def read(self, lesson: Lesson) -> Reading:
        """All of a lesson in one pass."""
        layout = lay_out(lesson, self.tokens)
        device = self.head.weight.device
        ids = layout.ids.to(device)
        states, normed = self._run(self._embed(ids, lesson.features), layout)
        is_video = ids == self.tokens.video
        frame_states = mean_frame_states(states[is_video], lesson.token_grid[0])
        places = [predicting(layout.owners, i, example) for i, example in enumerate(lesson.examples, 1)]
        return Reading(
            states,
            frame_states,
            self._token_losses(normed, places, lesson.examples),
            tuple(
                states[place[example.reply.index(self.tokens.reg)]]
                if self.tokens.reg in example.reply
                else None
                for place, example in zip(places, lesson.examples, strict=True)
            ),
        )

    def _embed(self, ids: Tensor, features: Tensor) -> Tensor:
        embedded = embedding(ids, self.text_model.embed_tokens.weight)
        is_video = (ids == self.tokens.video)[:, None]
        return embedded.masked_scatter(is_video, features.to(embedded).flatten(0, 1))

    def _run(self, embedded: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """(N, hidden) states before the last norm, and after it."""
        before: list[Tensor] = []
        hook = self.text_model.norm.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
        try:
            output = self.text_model(
                inputs_embeds=embedded[None],
                position_ids=layout.positions[:, None].to(embedded.device),
                attention_mask=dict.fromkeys(
                    self.text_model.config.layer_types, layout.visible().to(embedded.device)
                ),
                use_cache=False,
            )
        finally:
            hook.remove()
        return before[0][0], output.last_hidden_state[0]

    def _token_losses(
        self, normed: Tensor, places: Sequence[Tensor], examples: Sequence[Example]
    ) -> tuple[Tensor, ...]:
        wanted = torch.tensor(
            [token for example in examples for token in example.reply], device=normed.device
        )
        logits = self.head(normed[torch.cat(list(places)).to(normed.device)]).float()
        return cross_entropy(logits, wanted, reduction="none").split([len(e.reply) for e in examples])

    def losses(self, lesson: Lesson, reading: Reading) -> LossSums:
        """What the reading lacks. Anchors of the contrastive loss are drawn by chance.

        Raises:
            ValueError: an example has spans, and no `<|reg|>` in its reply to find them by.
        """
        language = torch.stack([losses.mean() for losses in reading.token_losses]).sum()
        grounded = [i for i, example in enumerate(lesson.examples) if example.spans and self.decoder]
        if not grounded or self.decoder is None:
            nothing = language.new_zeros(())
            return LossSums(language, nothing, nothing, nothing, len(lesson.examples))
        states = [reading.reg_states[i] for i in grounded]
        if any(state is None for state in states):
            raise ValueError("an example with spans must have <|reg|> in its reply")
        frames = lesson.token_grid[0]
        given = [torch.tensor(lesson.examples[i].spans, device=language.device) for i in grounded]
        spans = [at_least_a_frame(own, frames) for own in given]
        anchors = torch.stack([draw_anchor(own, frames) for own in spans])
        # The decoder, small and sensitive, is always float32.
        with torch.autocast(language.device.type, enabled=False):
            output = self.decoder(reading.frame_states, torch.stack(states).float())  # type: ignore[arg-type]
        found = grounding_losses(output, spans, anchors)
        return LossSums(
            language,
            found.classification.sum(),
            found.boundary.sum(),
            found.contrastive.sum(),
            len(lesson.examples),
        )


def lay_out(lesson: Lesson, tokens: TokenIds) -> Layout:
    """The prefix, up to and with `<|vision_end|>`, and what each example adds to it.

    Each example goes on where the prefix ends, and sees no other. The last token of a reply is left
    out: nothing follows it.

    Raises:
        ValueError: the examples do not begin with the same token, or one has no reply.
    """
    ends = {example.after[:1] for example in lesson.examples}
    if len(ends) != 1 or () in ends or not all(example.reply for example in lesson.examples):
        raise ValueError("examples must begin with <|vision_end|> and have a reply")
    video = video_ids(lesson.token_grid, tokens.video, (tokens.seg_start, tokens.seg_end), lesson.marked)
    prefix = [*lesson.before, *video, *ends.pop()]
    positions = rotary_positions(prefix, lesson.token_grid, lesson.before[-1], tokens.video)
    following = int(positions.max()) + 1
    own = [[*example.after[1:], *example.reply[:-1]] for example in lesson.examples]
    ids = torch.tensor([*prefix, *(token for each in own for token in each)])
    counts = torch.tensor([len(prefix), *(len(each) for each in own)])
    owners = torch.arange(len(counts)).repeat_interleave(counts)
    texts = [text_positions(following, len(each)) for each in own]
    return Layout(ids, torch.cat((positions, *texts), dim=1), owners)


def predicting(owners: Tensor, number: int, example: Example) -> Tensor:
    """The places in the sequence from which each token of an example's reply is predicted."""
    prefix = int((owners == 0).sum())
    start = int((owners < number).sum())
    places = torch.arange(len(example.reply)) + start + len(example.after) - 2
    return torch.where(places < start, prefix - 1, places)
