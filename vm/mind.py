"""VideoMind, loaded: open a video, ask it questions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from vm.bundled import choose_checkpoint
from vm.cast import Cast
from vm.chain import Progress, Request, run_chain
from vm.closing import Closing
from vm.config import ChainSettings
from vm.errors import CheckpointError, OutOfMemory
from vm.feature_cache import FeatureCache, hash_content
from vm.footage import Footage, view_of
from vm.kept_features import KeptFeatures
from vm.model.backbone import Backbone
from vm.model.checkpoint import Checkpoint, open_checkpoint, read_json
from vm.moments import Span
from vm.prompts import ChatTokenizer
from vm.result import Mode, Result, VideoFacts
from vm.subtitles import Cue
from vm.video import IsolatedReader, MediaLimits, OpenVideo, open_video

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class VideoMind:
    """One checkpoint on one device. Make it with `VideoMind.load`.

    One question runs at a time; further threads wait for their turn. `markers` are the ids of the tokens
    around a marked stretch.
    """

    def __init__(
        self,
        cast: Cast,
        fingerprint: str,
        markers: tuple[int, int],
        feature_cache: FeatureCache | None = None,
    ) -> None:
        self.cast = cast
        self.fingerprint = fingerprint
        self.markers = markers
        self.feature_cache = feature_cache
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        base: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        feature_cache: FeatureCache | None = None,
    ) -> VideoMind:
        """Load a checkpoint and its base.

        Args:
            checkpoint: folder in the published layout, with `roles.json`; None for the bundled one, which
                has its own base and knows only the synthetic world it was trained in.
            base: the base's folder or its name on the hub; without it, it is looked for beside the
                checkpoint and then on the hub.
            device: "auto" (CUDA where there is one, else the CPU) or a torch device.
            dtype: "auto" (bfloat16 on CUDA, else float32), "float32", "bfloat16" or "float16".
            feature_cache: where vision features are kept for whoever opens the same video with the same
                vision tower again, whatever the adapters. No result changes.

        Raises:
            CheckpointError: or one of its subclasses, naming file and tensor.
        """
        found = open_checkpoint(choose_checkpoint(checkpoint, base), base)
        place = _device(device)
        backbone = Backbone(found, place, _dtype(dtype, place))
        chat = _tokenizer(found)
        book = found.book
        ids = {
            key: _agreed_id(found, chat, key, text)
            for key, text in (
                ("reg_token_id", book.reg),
                ("seg_s_token_id", book.seg_start),
                ("seg_e_token_id", book.seg_end),
            )
        }
        cast = Cast(backbone, book, chat, ids["reg_token_id"], chat.token_id("Yes"), chat.token_id("No"))
        return cls(cast, found.fingerprint, (ids["seg_s_token_id"], ids["seg_e_token_id"]), feature_cache)

    def open(
        self,
        video: str | Path | OpenVideo,
        chain: ChainSettings | None = None,
        limits: MediaLimits | None = None,
        content_hash: str | None = None,
    ) -> Watched:
        """Open a video for any number of questions; use it as a context manager.

        Args:
            video: a local file, or one that `open_video` or `open_isolated` of `vm.video` has opened, which
                is closed with this.
            content_hash: the sha256 of its content, in hexadecimal, by which the feature cache knows it. To
                find out, a file that is given by its path is read through where there is a cache; of an open
                video without one nothing is kept.

        Raises:
            VideoError: or one of its subclasses.
            ValueError: no sha256.
        """
        if not isinstance(video, str | Path):
            return Watched(self, video, chain or ChainSettings(), content_hash)
        began = time.time()
        reader = open_video(video, limits)
        if self.feature_cache and content_hash is None:
            content_hash = hash_content(video, began)
        return Watched(self, reader, chain or ChainSettings(), content_hash)

    def prefetch(self, reader: IsolatedReader, content_hash: str | None = None) -> None:
        """Have what planner and grounder will look at decoded in the background, while the model is busy
        with another video.

        Args:
            content_hash: as for `open`; what is in the feature cache need not be decoded.
        """
        settings = [self.cast.settings(role) for role in ("planner", "grounder") if self.cast.has(role)]
        keys = [key for own in settings for key in view_of(reader, own, None).patch_keys]
        missing = KeptFeatures(self.cast.backbone, 0, self.feature_cache, content_hash).missing(keys)
        for size in dict.fromkeys(key[2:] for key in missing):
            reader.prefetch(sorted({n for key in missing if key[2:] == size for n in key[:2]}), size)

    def ask(
        self,
        video: str | Path,
        question: str,
        mode: Mode = "auto",
        options: Sequence[str] = (),
        subtitles: Sequence[Cue] | None = None,
        window: float | None = 150.0,
        min_answer_seconds: float | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Ask one question of one video; see `Watched.ask`."""
        with self.open(video) as watched:
            return watched.ask(question, mode, options, subtitles, window, min_answer_seconds, progress)


class Watched(Closing):
    """An open video. Later questions reuse what earlier ones decoded, encoded and read; no result changes."""

    def __init__(
        self, mind: VideoMind, reader: OpenVideo, chain: ChainSettings, content_hash: str | None = None
    ) -> None:
        self.reader = reader
        self._mind = mind
        self._chain = chain
        self._footage = Footage(
            reader, mind.cast.backbone, mind.markers, chain.reuse_bytes, mind.feature_cache, content_hash
        )

    @property
    def video(self) -> VideoFacts:
        return self.reader.info

    def ask(
        self,
        question: str,
        mode: Mode = "auto",
        options: Sequence[str] = (),
        subtitles: Sequence[Cue] | None = None,
        window: float | None = 150.0,
        min_answer_seconds: float | None = None,
        progress: Progress | None = None,
        verify: bool = True,
    ) -> Result:
        """Run the chain for one question.

        Args:
            mode: "auto" asks the planner; "ground-answer", "ground" and "answer" run without it.
            options: for a multiple-choice question; one is chosen.
            subtitles: cues of the whole video; the answerer is told those within its segment.
            window: seconds grounded in one pass on a long video; None for a single pass, as published.
            min_answer_seconds: length to which the answerer's segment is grown; None as the video was
                opened with, or else as the checkpoint has it.
            progress: called with a stage and the fraction done; what it raises ends the question.
            verify: False leaves the verifier out, and the grounder's order stands.

        Raises:
            QuestionError, VideoError, MissingRole, OutOfMemory.
        """
        request = Request(question, mode, tuple(options), tuple(subtitles or ()))
        least = self._chain.min_answer_seconds if min_answer_seconds is None else min_answer_seconds
        chain = replace(self._chain, window=window, min_answer_seconds=least, verify=verify)
        cast, fingerprint = self._mind.cast, self._mind.fingerprint
        with self._turn():
            return run_chain(cast, self._footage, request, chain, fingerprint, progress or _silent)

    def ask_role(self, role: str, text: str, span: Span | None = None) -> str:
        """What one role writes, asked alone: for roles of your own, which no plan names.

        Args:
            span: the stretch (seconds) it is shown; None for the whole video.

        Raises:
            QuestionError, VideoError, MissingRole, OutOfMemory.
        """
        Request(text)  # refuses what no role can be asked
        with self._turn(), self._mind.cast.playing(role, self._footage):
            return self._mind.cast.write(role, self._footage, text, span)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One question at a time; where the device has no memory for it, the next one begins afresh."""
        with self._mind._turn:
            self._footage.stopwatch.lap()
            try:
                yield
            except torch.OutOfMemoryError as error:
                self._footage.forget()
                raise OutOfMemory(
                    f"{self._mind.cast.backbone.device} has no memory left for this question: load the "
                    "model as bfloat16, or lower max_frames or max_pixels in roles.json"
                ) from error

    def close(self) -> None:
        self.reader.close()
        self._footage.forget()


def _silent(stage: str, fraction: float) -> None:
    """Nobody watches."""


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise CheckpointError(f"dtype {name!r} is unknown: choose auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _tokenizer(checkpoint: Checkpoint) -> ChatTokenizer:
    """From `tokenizer.json` and the chat template alone, so that no checkpoint chooses code to run."""
    path = checkpoint.folder / "tokenizer.json"
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    if not 0 <= checkpoint.video_id < len(tokenizer):
        raise CheckpointError(f"{path} has no token {checkpoint.video_id}, the base's video_token_id")
    video_token = tokenizer.convert_ids_to_tokens(checkpoint.video_id)
    chat = ChatTokenizer(tokenizer, _chat_template(checkpoint), video_token)
    chat.chat("")  # a template that does not work is found out now, not at the first question
    return chat


def _chat_template(checkpoint: Checkpoint) -> str:
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = checkpoint.folder / name
        if path.is_file() and isinstance(template := read_json(path).get("chat_template"), str):
            return template
    raise CheckpointError(f"{checkpoint.folder} has no chat template (chat_template.json)")


def _agreed_id(checkpoint: Checkpoint, chat: ChatTokenizer, key: str, text: str) -> int:
    """A special token's id, on which config, tokenizer and roles.json must agree."""
    token_id = chat.token_id(text)
    if checkpoint.config.get(key) != token_id:
        raise CheckpointError(
            f"{checkpoint.folder / 'config.json'}: {key} is {checkpoint.config.get(key)}, but {text!r} is "
            f"token {token_id} of the tokenizer"
        )
    return token_id
