"""The published procedure written plainly on today's transformers: what the chain is timed against.

Every role opens, decodes and encodes the video for itself, candidates are verified one at a time,
and nothing is kept. It shares with the library what decides the result and not the speed: weights,
prompts, rotary positions, the sampling rule and the timestamp decoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import av
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import DynamicCache

from vm.cast import Cast
from vm.config import ChainSettings
from vm.footage import View
from vm.mind import VideoMind
from vm.model.positions import rotary_positions
from vm.model.timestamp_decoder import best_spans
from vm.moments import Span
from vm.patches import fit_size
from vm.prompts import ChatPrompt
from vm.result import Plan
from vm.roles.grounder import fallback_candidates
from vm.roles.planner import default_steps, fold_query, parse_plan
from vm.video import open_video

_MEAN = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
_DEVIATION = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)


class Baseline:
    """Takes over a loaded `VideoMind`'s weights and runs them with transformers' own forward pass."""

    def __init__(self, mind: VideoMind, min_answer_seconds: float = 32.0) -> None:
        self.cast: Cast = mind.cast
        self.markers = mind.markers
        self.chain = ChainSettings(min_answer_seconds=min_answer_seconds)
        backbone = mind.cast.backbone
        self.model = backbone._model
        self.model.set_attn_implementation("sdpa")
        self.adapted = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        self.model.model.language_model.norm.register_forward_pre_hook(self._keep_state)

    def _keep_state(self, module: torch.nn.Module, given: tuple[Tensor]) -> None:
        self.state = given[0]

    @contextmanager
    def acting_as(self, role: str) -> Iterator[None]:
        """Switch adapters, embeddings and head through PEFT, as the published code does."""
        adapted = self.cast.has(role)
        for layer in self.adapted:
            layer.enable_adapters(adapted)
            if adapted:
                layer.set_adapter(role, inference_mode=True)
        self.embedding, self.head = self.cast.backbone.embedding_and_head(role if adapted else None)
        with self.cast.backbone.acting_as(role if adapted else None):
            yield

    @torch.inference_mode()
    def ask(self, video: Path, question: str) -> tuple[Plan, list[Span], list[float], str | None]:
        """Plan, candidates, verifier scores and answer."""
        text = self.cast.chat.decode(self.write("planner", video, None, question)[0])
        steps = parse_plan(text)
        plan = Plan(steps or default_steps(question), text, steps is None)
        spans, scores = [], []
        duration = self.duration(video)
        segment = Span(0.0, duration)
        if plan.grounds:
            spans = self.ground(video, fold_query(plan.query or question), duration)
            scores = [self.verify(video, question, span, duration) for span in spans]
            best = max(range(len(spans)), key=lambda place: scores[place])
            segment = spans[best].grown(self.chain.min_answer_seconds, duration)
        if not plan.answers:
            return plan, spans, scores, None
        ids = self.write("answerer", video, segment, question)[0]
        return plan, spans, scores, self.cast.chat.decode(ids).strip()

    def duration(self, video: Path) -> float:
        with open_video(video) as reader:
            return reader.info.duration

    def ground(self, video: Path, query: str, duration: float) -> list[Span]:
        ids, states, frame_states = self.write("grounder", video, None, query)
        if self.cast.reg not in ids[1:]:
            return [c.span for c in fallback_candidates(duration, verified=True)]
        state = states[ids.index(self.cast.reg, 1)]
        spans, _ = best_spans(self.cast.backbone.decoder(frame_states, state.float()), 0.75)
        return [Span.clamped(*ends, duration) for ends in (spans[:5] * duration).tolist()]

    @torch.inference_mode()
    def verify(self, video: Path, question: str, span: Span, duration: float) -> float:
        inner = span.grown(2.0, duration)
        outer = inner.widened(0.5, duration)
        view, features = self.look("verifier", video, outer)
        frames = view.token_grid[0]
        marks = [round((end - outer.start) / outer.length * frames) for end in (inner.start, inner.end)]
        view = replace(view, marked=(marks[0], marks[1]))
        prompt = self.cast.prompt("verifier", question)
        with self.acting_as("verifier"):
            logits = self.prefill(prompt, view, features, DynamicCache())[0]
        chances = logits[-1].softmax(-1)
        return float((chances[self.cast.yes] - chances[self.cast.no]).sigmoid())

    def look(self, role: str, video: Path, span: Span | None) -> tuple[View, Tensor]:
        """Decode and encode for this one call."""
        settings = self.cast.settings(role)
        with open_video(video) as reader:
            size = fit_size(reader.info.height, reader.info.width, settings.min_pixels, settings.max_pixels)
            view = View(reader.sample(span, settings.frame_rate, settings.max_frames), *size)
        backbone = self.cast.backbone
        patches = plain_patches(plain_frames(video, view)).to(backbone.device, backbone.dtype)
        grid = torch.tensor([[len(view.indices) // 2, size[0] // 14, size[1] // 14]], device=backbone.device)
        return view, self.model.model.visual(patches, grid).pooler_output

    def write(
        self, role: str, video: Path, span: Span | None, text: str
    ) -> tuple[list[int], list[Tensor], Tensor]:
        """Token ids, the states they were chosen from, and the mean state of each temporal patch."""
        prompt = self.cast.prompt(role, text)
        view, features = self.look(role, video, span)
        cache = DynamicCache()
        with self.acting_as(role):
            logits, position = self.prefill(prompt, view, features, cache)
            start = len(prompt.before)
            tokens = self.state[0, start : start + view.token_grid[0] * view.frame_tokens]
            frame_states = tokens.float().view(view.token_grid[0], view.frame_tokens, -1).mean(1)
            ids: list[int] = []
            states: list[Tensor] = []
            while len(ids) < self.cast.settings(role).max_new_tokens:
                chosen = int(logits[-1].argmax())
                if chosen in self.cast.backbone.eos_ids:
                    break
                ids.append(chosen)
                states.append(self.state[0, -1:])
                logits = self.step(chosen, position, cache)
                position += 1
        return ids, states, frame_states

    def prefill(
        self, prompt: ChatPrompt, view: View, features: Tensor, cache: DynamicCache
    ) -> tuple[Tensor, int]:
        """Logits of the whole prompt, as the published code computes them, and the next position."""
        start, end = prompt.before[-1], prompt.after[0]
        video = [self.cast.backbone.video_id] * (view.token_grid[0] * view.frame_tokens)
        if view.marked:
            first, last = (place * view.frame_tokens for place in view.marked)
            video = [*video[:first], self.markers[0], *video[first:last], self.markers[1], *video[last:]]
        ids = [*prompt.before, *video, end, *prompt.after[1:]]
        positions = rotary_positions(ids, view.token_grid, start, self.cast.backbone.video_id)
        tokens = torch.tensor(ids, device=features.device)
        embedded = torch.nn.functional.embedding(tokens, self.embedding)
        embedded[tokens == self.cast.backbone.video_id] = features
        return self.forward(embedded, positions, cache), int(positions.max()) + 1

    def step(self, chosen: int, position: int, cache: DynamicCache) -> Tensor:
        token = torch.tensor([chosen], device=self.cast.backbone.device)
        embedded = torch.nn.functional.embedding(token, self.embedding)
        return self.forward(embedded, torch.full((3, 1), position), cache)

    def forward(self, embedded: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
        states = self.model.model.language_model(
            inputs_embeds=embedded[None],
            position_ids=positions[:, None].to(embedded.device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[0]
        return torch.nn.functional.linear(states, self.head).float()


def plain_frames(video: Path, view: View) -> Tensor:
    """Seek to the keyframe before the first frame, decode on to the last, resize what was wanted."""
    wanted: dict[int, Tensor] = {}
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start = stream.start_time or 0
        container.seek(start + int(view.indices[0] / stream.average_rate / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            index = round((frame.pts - start) * stream.time_base * stream.average_rate)
            if index in view.indices:
                wanted[index] = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            if index >= view.indices[-1]:
                break
    full = torch.stack([wanted[index] for index in view.indices]).permute(0, 3, 1, 2).float()
    size = (view.height, view.width)
    return torch.nn.functional.interpolate(full, size, mode="bicubic", antialias=True).clamp(0, 255).round()


def plain_patches(frames: Tensor) -> Tensor:
    """Rescale, normalise, and cut into patches, one step after another."""
    count, _, height, width = frames.shape
    pixels = (frames / 255 - _MEAN) / _DEVIATION
    blocks = pixels.view(count // 2, 2, 3, height // 28, 2, 14, width // 28, 2, 14)
    return blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 3 * 2 * 14 * 14)
