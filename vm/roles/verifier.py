"""The verifier zooms in on each candidate and says Yes or No (paper section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from vm.cast import Cast
from vm.config import ChainSettings
from vm.footage import Footage, View
from vm.moments import Candidate, Span


def verify(
    cast: Cast, footage: Footage, question: str, candidates: Sequence[Candidate], chain: ChainSettings
) -> list[Candidate]:
    """The candidates with P(Yes), P(No) and verifier score, in the given order.

    All go through the model together; those that come to the same frames and marks share one place.
    """
    views = [zoomed_view(cast, footage, candidate.span, chain) for candidate in candidates]
    distinct = list(dict.fromkeys(views))
    prompt = cast.prompt("verifier", question)
    with cast.playing("verifier", footage):
        prefixes = cast.prefixes("verifier", footage, prompt, distinct)
        states = footage.follow(prefixes, [prompt] * len(distinct))
        logits = [cast.backbone.next_token_logits(state[None])[0] for state in states]
    chances = {
        view: scores.softmax(-1)[[cast.yes, cast.no]].tolist()
        for view, scores in zip(distinct, logits, strict=True)
    }
    return [_scored(candidate, *chances[view]) for candidate, view in zip(candidates, views, strict=True)]


def zoomed_view(cast: Cast, footage: Footage, span: Span, chain: ChainSettings) -> View:
    """The candidate widened by half its length on both sides, with its own stretch marked."""
    inner, outer = zoomed(span, footage.duration, chain)
    view = footage.view(cast.settings("verifier"), outer)
    return replace(view, marked=marks(inner, outer, view.token_grid[0]))


def zoomed(span: Span, duration: float, chain: ChainSettings) -> tuple[Span, Span]:
    """The stretch that is marked, and the wider one that is shown, in seconds."""
    inner = span.grown(chain.min_verified_seconds, duration)
    return inner, inner.widened(chain.widen_fraction, duration)


def marks(inner: Span, outer: Span, frames: int) -> tuple[int, int]:
    """Where the markers stand among the temporal patches of what is shown."""
    first, last = (
        min(max(round((end - outer.start) / outer.length * frames), 0), frames)
        for end in (inner.start, inner.end)
    )
    return first, last


def _scored(candidate: Candidate, p_yes: float, p_no: float) -> Candidate:
    return replace(candidate, p_yes=p_yes, p_no=p_no, verifier_score=1 / (1 + math.exp(p_no - p_yes)))
