"""How training starts: a base's language model with what is to be trained in place, and all else frozen.

As published (`videomind/train/train.py`): LoRA on q, k, v and o of every layer; grounder and verifier, who
speak with tokens of their own, also get embeddings and a head of their own; the grounder its decoder.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from vm.errors import TrainingError
from vm.model.backbone import Backbone
from vm.model.timestamp_decoder import TimestampDecoder
from vm.training.student import Student, TokenIds

Embeddings = Literal["none", "new", "all"]
DECODER_WIDTH = 256
TARGETS = r"layers\.\d+\.self_attn\.[qkvo]_proj"


@dataclass(frozen=True)
class LoraSettings:
    """As published unless given: rank 64, alpha 64, dropout 0.1."""

    rank: int = 64
    alpha: float = 64.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise TrainingError("LoRA needs a rank of at least 1, a positive alpha, and a dropout under 1")


def default_embeddings(role: str) -> Embeddings:
    """What is published: grounder and verifier have embeddings and a head of their own, trained in full."""
    return "all" if role in ("grounder", "verifier") else "none"


def lora_student(
    backbone: Backbone,
    role: str,
    tokens: TokenIds,
    lora: LoraSettings,
    embeddings: Embeddings,
    decoder_width: int = DECODER_WIDTH,
) -> Student:
    """A student of one role on a frozen base. An adapter the backbone has of that role is gone on with.

    The backbone's modules become the student's; its reading and encoding stay as they were.

    Args:
        embeddings: the role's own, trained: none, the rows of the three added tokens, or all. Rows the base
            does not have start as the mean of those it has.

    Raises:
        TrainingError: the role needs tokens the base has no embeddings for.
    """
    text_model = backbone.model.model.language_model
    backbone.model.requires_grad_(False)
    _place_adapter(backbone, role, lora)
    known = role if role in backbone.roles else None
    embedding, head = backbone.embedding_and_head(known)
    rows = max(len(embedding), tokens.reg + 1, tokens.seg_start + 1, tokens.seg_end + 1)
    if embeddings == "none" and rows > len(embedding) and role in ("grounder", "verifier"):
        raise TrainingError(f"the base has no embeddings for the tokens the {role} needs: train new or all")
    own = embeddings != "none" or embedding is not backbone.embedding_and_head(None)[0]
    student = Student(text_model, _linear(head), tokens, _decoder(backbone, role, decoder_width), own)
    student.text_model.embed_tokens = nn.Embedding.from_pretrained(embedding)
    if embeddings != "none":
        _train_embeddings(student, rows, tokens if embeddings == "new" else None)
    return student


def full_student(
    backbone: Backbone, role: str, tokens: TokenIds, decoder_width: int = DECODER_WIDTH
) -> Student:
    """A student all of whose language model is trained; it ends as a base of its own.

    Embedding and head stay one where the base has them so.

    Raises:
        TrainingError: the backbone has adapters, which would be trained with it.
    """
    if backbone.roles:
        raise TrainingError(
            f"a whole model is trained without adapters; {', '.join(backbone.roles)} are there"
        )
    text_model, head = backbone.model.model.language_model, backbone.model.lm_head
    embedding, rows = text_model.embed_tokens.weight, max(tokens.reg, tokens.seg_start, tokens.seg_end) + 1
    tied = head.weight.data_ptr() == embedding.data_ptr()
    student = Student(text_model, _linear(head.weight), tokens, _decoder(backbone, role, decoder_width))
    text_model.requires_grad_(True)
    for parameter in text_model.parameters():
        parameter.data = parameter.data.float().clone()  # what is trained is float32, and not the backbone's
    text_model.embed_tokens = nn.Embedding.from_pretrained(_grown(embedding, rows), freeze=False)
    student.head.weight = text_model.embed_tokens.weight if tied else nn.Parameter(_grown(head.weight, rows))
    return student


def _place_adapter(backbone: Backbone, role: str, lora: LoraSettings) -> None:
    text_model = backbone.model.model.language_model
    if role not in backbone.roles:
        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=TARGETS
        )
        with warnings.catch_warnings():
            # It warns of a second adapter, and a checkpoint has several on purpose.
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            inject_adapter_in_model(config, text_model, role)
    layers: list[Any] = [module for module in text_model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.set_adapter(role)
        layer.lora_dropout[role] = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
        for part in (layer.lora_A[role], layer.lora_B[role]):
            part.float().requires_grad_(True)


def _decoder(backbone: Backbone, role: str, width: int) -> TimestampDecoder | None:
    if role != "grounder":
        return None
    if backbone.decoder is not None:
        return backbone.decoder.requires_grad_(True)
    config = backbone.model.config.get_text_config()
    decoder = TimestampDecoder(config.hidden_size, width, config.hidden_act)
    return decoder.to(backbone.device)


def _train_embeddings(student: Student, rows: int, only: TokenIds | None) -> None:
    """The role's own copies, to be trained; where `only` is given, those tokens' rows alone."""
    embedding, head = student.text_model.embed_tokens, student.head
    embedding.weight = nn.Parameter(_grown(embedding.weight, rows))
    head.weight = nn.Parameter(_grown(head.weight, rows))
    embedding.num_embeddings = head.out_features = rows
    if only is not None:
        trained = torch.zeros(rows, 1)
        trained[[only.reg, only.seg_start, only.seg_end]] = 1
        for weight in (embedding.weight, head.weight):
            weight.register_hook(lambda gradient: gradient * trained.to(gradient))


def _grown(weight: Tensor, rows: int) -> Tensor:
    """A float32 copy with at least so many rows; what is added is the mean of the others."""
    weight = weight.detach().float()
    mean = weight.mean(0, keepdim=True)
    return torch.cat((weight, mean.expand(max(0, rows - len(weight)), -1)))


def _linear(weight: Tensor) -> nn.Linear:
    """A frozen layer over the given weight itself."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear
