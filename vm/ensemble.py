"""Several checkpoints as one: each role on a model of its own, in place of adapters on one base.

What one base with adapters is measured against; it needs as many times the memory as there are models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from vm.errors import CheckpointError, MissingRole
from vm.mind import VideoMind
from vm.model.backbone import Backbone, Generation, Passage
from vm.model.key_values import KeyValues


class SeparateModels(Backbone):
    """Backbones behind the face of one: whoever acts as a role reads with that role's model.

    Args:
        bare: its base stands in for roles without an adapter.
        owners: each role's backbone.
    """

    def __init__(self, bare: Backbone, owners: Mapping[str, Backbone]) -> None:
        self._owners = dict(owners)
        self._models = list(dict.fromkeys([bare, *owners.values()]))
        self._acting = bare
        self.device, self.dtype = bare.device, bare.dtype
        self.video_id, self.eos_ids = bare.video_id, bare.eos_ids
        self.decoder = owners["grounder"].decoder if "grounder" in owners else None

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(self._owners)

    @property
    def tower(self) -> int:
        return self._models.index(self._acting)

    @property
    def vision_fingerprint(self) -> str:
        return self._acting.vision_fingerprint

    @property
    def model(self) -> Any:
        return self._acting.model

    @property
    def nbytes(self) -> int:
        return sum(model.nbytes for model in self._models)

    def embedding_and_head(self, role: str | None) -> tuple[Tensor, Tensor]:
        return self._model_of(role).embedding_and_head(role)

    @contextmanager
    def acting_as(self, role: str | None) -> Iterator[None]:
        before, self._acting = self._acting, self._model_of(role)
        try:
            with self._acting.acting_as(role):
                yield
        finally:
            self._acting = before

    def _model_of(self, role: str | None) -> Backbone:
        if role is not None and role not in self._owners:
            raise MissingRole(f"no checkpoint has a {role}; there are {', '.join(self._owners)}")
        return self._models[0] if role is None else self._owners[role]

    def encode(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        return self._acting.encode(patches, rows, columns)

    def read(self, passages: Sequence[Passage]) -> list[Tensor]:
        return self._acting.read(passages)

    def next_token_logits(self, states: Tensor) -> Tensor:
        return self._acting.next_token_logits(states)

    def generate(self, past: KeyValues, state: Tensor, position: int, limit: int) -> Generation:
        return self._acting.generate(past, state, position, limit)


def combine(minds: Sequence[VideoMind]) -> VideoMind:
    """One VideoMind with the roles of all, each with its own weights, prompt and budgets.

    What none has an adapter for is left to the base of the first, which need not have any.

    Raises:
        CheckpointError: two have the same role, or their tokens have different ids.
    """
    first = minds[0]
    owners: dict[str, VideoMind] = {}
    for mind in minds:
        if _tokens(mind) != _tokens(first):
            raise CheckpointError("the checkpoints to combine do not share one tokenizer")
        for role in mind.cast.backbone.roles:
            if role in owners:
                raise CheckpointError(f"two of the checkpoints to combine have a {role}")
            owners[role] = mind
    book = first.cast.book
    own_settings = {role: mind.cast.settings(role) for role, mind in owners.items()}
    cast = replace(
        first.cast,
        backbone=SeparateModels(
            first.cast.backbone, {role: mind.cast.backbone for role, mind in owners.items()}
        ),
        book=replace(book, roles={**book.roles, **own_settings}),
    )
    together = hashlib.sha256("".join(mind.fingerprint for mind in minds).encode()).hexdigest()
    return VideoMind(cast, together, first.markers)


def _tokens(mind: VideoMind) -> tuple[object, ...]:
    cast = mind.cast
    return (cast.reg, cast.yes, cast.no, *mind.markers, cast.backbone.video_id, cast.backbone.eos_ids)
