"""One Qwen2-VL base in memory and any number of adapters on it. Knows no video and no prompt texts.

Adapters are switched, never copied: `with backbone.acting_as("grounder"): …`. Everything the roles do
with the model goes through four calls: `encode` frames, `read` tokens, `next_token_logits`, `generate`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import inject_adapter_in_model
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from vm.errors import CheckpointError, MissingRole, TensorMismatch
from vm.model import vision
from vm.model.checkpoint import ADAPTER_FILE, DECODER_FILE, Checkpoint, weight_files
from vm.model.key_values import KeyValues
from vm.model.language_model import LanguageModel
from vm.model.timestamp_decoder import TimestampDecoder
from vm.model.weights import read_lora_config, read_tensors, stored_shape

_EMBEDDING = "model.language_model.embed_tokens.weight"
_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Passage:
    """Tokens for the model to read after what a sequence's `past` holds.

    Attributes:
        past: the sequence's keys and values so far; extended by reading.
        ids: (n,) int64.
        positions: (3, n) int64.
        features: (k, hidden) vision features, to stand at the k places in `ids` of the video token.
    """

    past: KeyValues
    ids: Tensor
    positions: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class Generation:
    """Greedily chosen tokens (end of sequence left out), and the state each was chosen from, (n, hidden)."""

    ids: list[int]
    states: Tensor


class Backbone:
    """The base, its adapters and the timestamp decoder, ready to run.

    Args:
        checkpoint: from `open_checkpoint`.
        device, dtype: where and as what the weights are held. The timestamp decoder, small and
            sensitive, is always float32.

    Raises:
        TensorMismatch, UnsafeWeights, CheckpointError: see `vm.errors`.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._model = _load_base(checkpoint, device, dtype)
        text_model = self._model.model.language_model
        self._bare = (text_model.embed_tokens.weight, self._model.lm_head.weight)
        self._heads: dict[str, tuple[Tensor, Tensor]] = {}
        for role in checkpoint.adapters:
            self._heads[role] = self._load_adapter(checkpoint, role)
        self._model.requires_grad_(False).eval()
        self._language_model = LanguageModel(text_model)
        self._layers = {role: self._language_model.layers(role) for role in (None, *self._heads)}
        self.video_id = checkpoint.video_id
        self.eos_ids = checkpoint.end_ids
        self.decoder = _load_decoder(checkpoint, device) if "grounder" in self._heads else None
        self._role: str | None = None
        self._vision_fingerprint: str | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have an adapter."""
        return tuple(self._heads)

    @property
    def model(self) -> Any:
        """transformers' model of the base with the adapters in place. For training; reading goes past it."""
        return self._model

    def embedding_and_head(self, role: str | None) -> tuple[Tensor, Tensor]:
        """(vocabulary, hidden) each: a role's own, or the base's where it has none."""
        return self._bare if role is None else self._heads[role]

    @property
    def tower(self) -> int:
        """Tells apart what different vision towers make of the same frames; here there is but one."""
        return 0

    @property
    def vision_fingerprint(self) -> str:
        """Of that tower, the same in every process; see `vision.fingerprint`. Computed when first needed."""
        if self._vision_fingerprint is None:
            self._vision_fingerprint = vision.fingerprint(self._model.model.visual)
        return self._vision_fingerprint

    @property
    def nbytes(self) -> int:
        """Bytes of weights in memory."""
        heads = [weight for pair in self._heads.values() for weight in pair]
        parts = [self._model, *([self.decoder] if self.decoder else [])]
        weights = [*heads, *(weight for part in parts for weight in part.parameters())]
        return sum({weight.data_ptr(): weight.nbytes for weight in weights}.values())

    @contextmanager
    def acting_as(self, role: str | None) -> Iterator[None]:
        """Run as `role`; None is the bare base. What was active before is restored, come what may.

        Raises:
            MissingRole: the checkpoint has no such adapter.
        """
        if role is not None and role not in self._heads:
            raise MissingRole(
                f"the checkpoint has no {role}; it has {', '.join(self._heads) or 'no adapter'}"
            )
        before = self._role
        self._role = role
        try:
            yield
        finally:
            self._role = before

    @torch.inference_mode()
    def encode(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """Vision features of (T, H·W, 1176) patches: (T, H·W / 4, hidden). The same for every role."""
        return vision.encode(self._model.model.visual, patches.to(self.device, self.dtype), rows, columns)

    @torch.inference_mode()
    def read(self, passages: Sequence[Passage]) -> list[Tensor]:
        """Let the model read several passages at once, each after its own past.

        Returns:
            per passage its hidden states before the last norm, (n, hidden).
        """
        embedded = torch.cat([self._embed(passage) for passage in passages])
        positions = torch.cat([passage.positions for passage in passages], dim=1).to(self.device)
        counts = [len(passage.ids) for passage in passages]
        sequences = [(passage.past, count) for passage, count in zip(passages, counts, strict=True)]
        states = self._language_model.read(self._layers[self._role], embedded, positions, sequences)
        return list(states.split(counts))

    def _embed(self, passage: Passage) -> Tensor:
        ids = passage.ids.to(self.device)
        embedded = torch.nn.functional.embedding(ids, self.embedding_and_head(self._role)[0])
        if passage.features is not None:
            embedded[ids == self.video_id] = passage.features.to(embedded)
        return embedded

    @torch.inference_mode()
    def next_token_logits(self, states: Tensor) -> Tensor:
        """(n, vocabulary) in float32, for (n, hidden) states before the last norm.

        Raises:
            CheckpointError: the weights, or the dtype they are run in, give no finite numbers.
        """
        logits = torch.nn.functional.linear(
            self._language_model.final_norm(states), self.embedding_and_head(self._role)[1]
        ).float()
        if not logits.isfinite().all():
            raise CheckpointError(
                f"the model's scores are not finite: its weights are damaged, or overflow {self.dtype}"
            )
        return logits

    @torch.inference_mode()
    def generate(self, past: KeyValues, state: Tensor, position: int, limit: int) -> Generation:
        """Continue greedily until an end-of-sequence token or `limit` tokens.

        Args:
            state: (hidden,) the state of the last token read.
            position: the rotary position of the first new token.
        """
        ids: list[int] = []
        states: list[Tensor] = []
        for step in range(limit):
            chosen = int(self.next_token_logits(state[None]).argmax())
            if chosen in self.eos_ids:
                break
            ids.append(chosen)
            states.append(state)
            if len(ids) < limit:
                place = torch.full((3, 1), position + step)
                state = self.read([Passage(past, torch.tensor([chosen]), place)])[0][0]
        return Generation(ids, torch.stack(states) if states else state.new_empty(0, state.shape[-1]))

    def _load_adapter(self, checkpoint: Checkpoint, role: str) -> tuple[Tensor, Tensor]:
        """Put a role's LoRA layers in place; its embeddings and head, the base's where it has none."""
        folder = checkpoint.adapters[role]
        config = read_lora_config(folder / "adapter_config.json")
        before = {name for name, _ in self._model.named_parameters()}
        try:
            with warnings.catch_warnings():
                # It warns of a second adapter, and here there are several on purpose.
                warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
                inject_adapter_in_model(config, self._model, role, low_cpu_mem_usage=True)
        except (ValueError, re.error) as error:
            raise CheckpointError(f"{folder / 'adapter_config.json'}: {error}") from error
        ours = {n: p.shape for n, p in self._model.named_parameters() if n not in before and f".{role}." in n}
        stored = {name.replace(f".{role}.", "."): name for name in ours}
        shapes = {name: ours[full] for name, full in stored.items()}
        heads = _head_shapes(folder / ADAPTER_FILE, self._bare[0].shape)
        tensors = read_tensors(
            [folder / ADAPTER_FILE], {**shapes, **heads}, self.dtype, self.device, optional=frozenset(heads)
        )
        self._model.load_state_dict(
            {full: tensors[name] for name, full in stored.items()}, strict=False, assign=True
        )
        return tensors.get(_EMBEDDING, self._bare[0]), tensors.get(_HEAD, self._bare[1])


def _head_shapes(path: Path, base: torch.Size) -> dict[str, torch.Size]:
    """Of a role's own embeddings and head: the base's, or longer where it knows tokens the base does not."""
    stored = [shape for name in (_EMBEDDING, _HEAD) if (shape := stored_shape(path, name))]
    rows = max([base[0], *(shape[0] for shape in stored)])
    return dict.fromkeys((_EMBEDDING, _HEAD), torch.Size((rows, base[1])))


def _load_base(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    """The base with its weights in place, each read once and straight into `dtype` and `device`."""
    try:
        config = Qwen2VLConfig.from_dict(dict(checkpoint.base_config))
        _check_attention(config.get_text_config())
        with torch.device("meta"):
            model = Qwen2VLForConditionalGeneration(config)
    except Exception as error:  # transformers checks little, and what fails then may be anything
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint.base / 'config.json'} describes no Qwen2-VL: {reason}") from error
    tied = frozenset([_HEAD]) if config.tie_word_embeddings else frozenset()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    tensors = read_tensors(weight_files(checkpoint.base), shapes, dtype, device, optional=tied)
    if tied:
        tensors[_HEAD] = tensors[_EMBEDDING]
    model.load_state_dict(tensors, assign=True)
    _restore_buffers(model, device)
    return model


def _check_attention(config: Any) -> None:
    """Refuse what would load, and then run wrongly or not at all. Raises: ValueError."""
    if set(config.layer_types) != {"full_attention"}:
        raise ValueError("sliding windows of attention are not supported")
    head_width = config.hidden_size // config.num_attention_heads
    if 2 * sum(config.rope_parameters["mrope_section"]) != head_width:
        raise ValueError(f"mrope_section does not divide heads of width {head_width}")


def _restore_buffers(model: Any, device: torch.device) -> None:
    """Rotary frequencies are computed, not stored; on the meta device they were left empty."""
    for owner in (model.model.language_model, model.model.visual):
        name = "rotary_emb" if hasattr(owner, "rotary_emb") else "rotary_pos_emb"
        rotary = getattr(owner, name)
        setattr(owner, name, type(rotary)(rotary.config).to(device))


def _load_decoder(checkpoint: Checkpoint, device: torch.device) -> TimestampDecoder:
    path = checkpoint.folder / DECODER_FILE
    text_config = checkpoint.base_config.get("text_config", checkpoint.base_config)  # newer configs nest it
    width = text_config.get("hidden_size")
    shape = stored_shape(path, "vis_proj.1.weight")
    if shape is None:
        raise TensorMismatch(f"{path}: missing tensor vis_proj.1.weight")
    if len(shape) != 2 or shape[1] != width:
        raise TensorMismatch(
            f"{path}: tensor vis_proj.1.weight has shape {shape}, but the base's states are {width} wide"
        )
    with torch.device("meta"):
        decoder = TimestampDecoder(width, shape[0], str(text_config.get("hidden_act", "silu")))
    shapes = {name: tensor.shape for name, tensor in decoder.state_dict().items()}
    decoder.load_state_dict(read_tensors([path], shapes, torch.float32, device), assign=True)
    return decoder.requires_grad_(False).eval()
