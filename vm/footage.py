"""One open video as the roles see it: frames, features and prefixes, each made once and kept.

A *view* is what a prompt shows of the video: some of its frames at some size, perhaps with a stretch
marked. Features are kept per temporal patch, so that views which share frames share them; a role's
keys and values over a view are its *prefix*, read once and continued by every question.
Knows frames and tensors; knows nothing of plans, candidates or answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vm.bounded_cache import BoundedCache
from vm.config import PATCH_SIZE, PIXEL_FACTOR, RoleSettings
from vm.feature_cache import FeatureCache, PatchKey
from vm.kept_features import KeptFeatures
from vm.model.backbone import Backbone, Generation, Passage
from vm.model.key_values import KeyValues
from vm.model.positions import rotary_positions, text_positions, video_ids
from vm.model.timestamp_decoder import mean_frame_states
from vm.moments import Span
from vm.patches import fit_size, to_patches
from vm.prompts import ChatPrompt
from vm.stopwatch import Stopwatch
from vm.video import OpenVideo

T = TypeVar("T")

# Patches made and encoded together: enough to keep a processor busy, few enough for its caches.
_BATCH_PATCHES = 2048
# Tokens read in one pass at most: bounds memory where several candidates are read together.
_PACKED_TOKENS = 16384
# Room behind a prefix for a question and what is written in reply, so that buffers rarely grow.
_ROOM_TOKENS = 384


@dataclass(frozen=True)
class View:
    """What a prompt shows of the video.

    Attributes:
        indices: frame numbers, an even count; two in a row make one temporal patch.
        height, width: size the frames are shown at, in pixels.
        marked: the stretch between the segment markers, in temporal patches from the view's start.
    """

    indices: tuple[int, ...]
    height: int
    width: int
    marked: tuple[int, int] | None = None

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """(T, H, W) in tokens."""
        return len(self.indices) // 2, self.height // PIXEL_FACTOR, self.width // PIXEL_FACTOR

    @property
    def frame_tokens(self) -> int:
        """Tokens of one temporal patch."""
        _, rows, columns = self.token_grid
        return rows * columns

    @property
    def patch_keys(self) -> list[PatchKey]:
        """What each temporal patch's features depend on."""
        pairs = zip(self.indices[::2], self.indices[1::2], strict=True)
        return [(first, second, self.height, self.width) for first, second in pairs]


@dataclass(frozen=True)
class Prefix:
    """A prompt up to and with its video, read by one role.

    `frame_states` (T, hidden) is the mean state before the last norm over each temporal patch's
    tokens; only unmarked views have it. `position` is the next token's rotary position.
    """

    past: KeyValues
    length: int
    position: int
    frame_states: Tensor | None

    @property
    def nbytes(self) -> int:
        return self.past.nbytes


class Footage:
    """Frames, features and prefixes of one open video.

    Args:
        reader: the open video.
        backbone: the model; `acting_as` must be in force wherever prefixes are read.
        markers: ids of the tokens that mark a stretch's start and end.
        reuse_bytes: how much to keep in memory, in bytes.
        cache, content_hash: where features are kept beyond this, and as what video's; see `KeptFeatures`.
    """

    def __init__(
        self,
        reader: OpenVideo,
        backbone: Backbone,
        markers: tuple[int, int],
        reuse_bytes: int,
        cache: FeatureCache | None = None,
        content_hash: str | None = None,
    ) -> None:
        self.reader = reader
        self.backbone = backbone
        self.stopwatch = Stopwatch()
        self._markers = markers
        self._told = len(reader.warnings)  # more of them mean damaged frames
        # Bounded apart: prefixes are large and quickly made anew, they must not push the others out.
        self._frames: BoundedCache[Tensor] = BoundedCache(reuse_bytes // 8)
        self._features = KeptFeatures(backbone, reuse_bytes * 3 // 8, cache, content_hash)
        self._prefixes: BoundedCache[Prefix] = BoundedCache(reuse_bytes // 2)

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.reader.info.duration

    def view(self, settings: RoleSettings, span: Span | None = None) -> View:
        """The frames a role is shown of a span, or of the whole video."""
        return view_of(self.reader, settings, span)

    def fetch(self, views: Sequence[View]) -> None:
        """Decode in one go what several roles are about to look at, if it can be kept until then."""
        missing = self._features.missing([key for view in views for key in view.patch_keys])
        for size in dict.fromkeys(key[2:] for key in missing):
            self._decode([number for key in missing if key[2:] == size for number in key[:2]], size)

    def features(self, views: Sequence[View]) -> list[Tensor]:
        """(T, H·W, hidden) in tokens for each view; only what was never seen is decoded and encoded."""
        keys = list(dict.fromkeys(key for view in views for key in view.patch_keys))
        known = self._features.get(keys)
        missing = [key for key in keys if key not in known]
        for size in dict.fromkeys(key[2:] for key in missing):
            known |= self._make_features([key for key in missing if key[2:] == size], size)
        return [torch.stack([known[key] for key in view.patch_keys]) for view in views]

    def _make_features(self, keys: list[PatchKey], size: tuple[int, int]) -> dict[PatchKey, Tensor]:
        numbers = [number for key in keys for number in key[:2]]
        decoded = self._decode(numbers, size)
        frames = torch.stack([decoded[number] for number in numbers])
        with self.stopwatch.measure("vision"):
            # Cloned, since a slice would keep its whole batch alive after the others are dropped.
            made = {key: f.clone() for key, f in zip(keys, self._encode(frames), strict=True)}
        # What stands in for a damaged frame depends on what is read with it, and the user must be told.
        self._features.put(made, lasting=len(self.reader.warnings) == self._told)
        return made

    def _decode(self, numbers: Sequence[int], size: tuple[int, int]) -> dict[int, Tensor]:
        """uint8 (3, height, width) for each frame number; each is decoded once while it can be kept."""
        frames = {number: self._frames.get((number, size)) for number in numbers}
        missing = [number for number, frame in frames.items() if frame is None]
        if missing:
            with self.stopwatch.measure("decode"):
                decoded = self.reader.read(missing, size).pixels
            for number, frame in zip(missing, decoded, strict=True):
                frames[number] = kept = frame.clone()
                self._frames.put((number, size), kept)
        return {number: _known(frame) for number, frame in frames.items()}

    def _encode(self, frames: Tensor) -> Iterator[Tensor]:
        """(H·W, hidden) in tokens for each two of (2·T, 3, height, width) frames."""
        rows, columns = frames.shape[2] // PATCH_SIZE, frames.shape[3] // PATCH_SIZE
        batch = 2 * max(1, _BATCH_PATCHES // (rows * columns))
        for part in frames.split(batch):
            yield from self._encode_part(part, rows, columns)

    def _encode_part(self, frames: Tensor, rows: int, columns: int) -> list[Tensor]:
        """All at once, or half by half where the device has no memory for that."""
        try:
            patches = to_patches(frames.to(self.backbone.device), self.backbone.dtype)
            return list(self.backbone.encode(patches, rows, columns))
        except torch.OutOfMemoryError:
            if len(frames) <= 2:
                raise
        half = len(frames) // 4 * 2  # two frames make a patch
        first, second = frames.split([max(2, half), len(frames) - max(2, half)])
        return self._encode_part(first, rows, columns) + self._encode_part(second, rows, columns)

    def prefixes(self, role: str, before: tuple[int, ...], after: int, views: Sequence[View]) -> list[Prefix]:
        """Each view's prefix for `role`, in the given order; those not yet known are read together.

        Args:
            before: token ids up to and with `<|vision_start|>`.
            after: the id of `<|vision_end|>`.
        """
        known = {view: self._prefixes.get((role, before, view)) for view in views}
        missing = [view for view, prefix in known.items() if prefix is None]
        passages = [
            self._passage(before, after, view, features)
            for view, features in zip(missing, self.features(missing), strict=True)
        ]
        for view, passage, states in zip(missing, passages, self._read(passages), strict=True):
            known[view] = prefix = _prefix(view, passage, states, len(before))
            self._prefixes.put((role, before, view), prefix)
        return [_known(known[view]) for view in views]

    def _passage(self, before: tuple[int, ...], after: int, view: View, features: Tensor) -> Passage:
        video = video_ids(view.token_grid, self.backbone.video_id, self._markers, view.marked)
        ids = [*before, *video, after]
        positions = rotary_positions(ids, view.token_grid, before[-1], self.backbone.video_id)
        past = KeyValues(capacity=len(ids) + _ROOM_TOKENS)
        return Passage(past, torch.tensor(ids), positions, features.flatten(0, 1))

    def follow(self, prefixes: Sequence[Prefix], prompts: Sequence[ChatPrompt]) -> list[Tensor]:
        """Read each prompt's text behind its prefix: the state of the last token, (hidden,) each."""
        passages = []
        for prefix, prompt in zip(prefixes, prompts, strict=True):
            prefix.past.truncate(prefix.length)
            ids = torch.tensor(prompt.after[1:])
            passages.append(Passage(prefix.past, ids, text_positions(prefix.position, len(ids))))
        return [states[-1] for states in self._read(passages)]

    def log_likelihood(self, prefix: Prefix, prompt: ChatPrompt, reply: Sequence[int]) -> float:
        """How likely a reply (token ids, at least one) is behind a prompt: the natural logarithm."""
        prefix.past.truncate(prefix.length)
        ids = torch.tensor([*prompt.after[1:], *reply[:-1]])
        passage = Passage(prefix.past, ids, text_positions(prefix.position, len(ids)))
        states = self._read([passage])[0][-len(reply) :]
        chances = self.backbone.next_token_logits(states).log_softmax(-1)
        return float(chances[range(len(reply)), list(reply)].sum())

    def write(self, prefix: Prefix, prompt: ChatPrompt, limit: int) -> Generation:
        """Read the prompt behind the prefix and continue greedily for at most `limit` tokens."""
        state = self.follow([prefix], [prompt])[0]
        return self.backbone.generate(prefix.past, state, prefix.position + len(prompt.after) - 1, limit)

    def forget(self) -> None:
        """Let go of everything kept."""
        self._frames.clear()
        self._features.clear()
        self._prefixes.clear()

    def _read(self, passages: Sequence[Passage]) -> list[Tensor]:
        states: list[Tensor] = []
        for pack in _packs(passages):
            states += self._read_pack(pack)
        return states

    def _read_pack(self, pack: list[Passage]) -> list[Tensor]:
        """All at once, or half by half where the device has no memory for that."""
        try:
            return self.backbone.read(pack)
        except torch.OutOfMemoryError:
            if len(pack) == 1:
                raise
        half = len(pack) // 2
        return self._read_pack(pack[:half]) + self._read_pack(pack[half:])


def view_of(reader: OpenVideo, settings: RoleSettings, span: Span | None) -> View:
    """The frames a role is shown of a span of an open video, or of all of it."""
    info = reader.info
    size = fit_size(info.height, info.width, settings.min_pixels, settings.max_pixels)
    return View(reader.sample(span, settings.frame_rate, settings.max_frames), *size)


def _prefix(view: View, passage: Passage, states: Tensor, start: int) -> Prefix:
    frame_states = None
    if view.marked is None:
        frames, tokens = view.token_grid[0], view.frame_tokens
        frame_states = mean_frame_states(states[start : start + frames * tokens], frames)
    return Prefix(passage.past, len(passage.ids), int(passage.positions.max()) + 1, frame_states)


def _packs(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    pack: list[Passage] = []
    for passage in passages:
        if pack and sum(len(p.ids) for p in pack) + len(passage.ids) > _PACKED_TOKENS:
            yield pack
            pack = []
        pack.append(passage)
    if pack:
        yield pack


def _known(value: T | None) -> T:
    assert value is not None
    return value
