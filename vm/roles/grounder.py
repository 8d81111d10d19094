"""The grounder localises a query: on `<|reg|>` the timestamp decoder regresses spans (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from vm.cast import Cast
from vm.errors import MissingRole
from vm.footage import Footage, Prefix
from vm.model.backbone import Generation
from vm.model.timestamp_decoder import best_spans
from vm.moments import Candidate, Span
from vm.roles.planner import fold_query

_KEPT_SPANS = 100
_UNIT = 0.001  # seconds to which spans are rounded, as published
_FALLBACK_SPANS = 5


def ground(cast: Cast, footage: Footage, query: str, window: Span, nms_iou: float) -> list[Candidate]:
    """The window's best spans for a query, most confident first; none where no `<|reg|>` is written.

    Args:
        window: the stretch of video to look at, seconds; the whole video for a single pass.
        nms_iou: IoU at which the less confident of two spans is suppressed.
    """
    settings = cast.settings("grounder")
    prompt = cast.prompt("grounder", fold_query(query))
    with cast.playing("grounder", footage):
        prefix = cast.prefixes("grounder", footage, prompt, [footage.view(settings, window)])[0]
        written = footage.write(prefix, prompt, settings.max_new_tokens)
        state = _reg_state(written, cast.reg)
        return [] if state is None else _candidates(cast, prefix, state, window, nms_iou)


def _reg_state(written: Generation, reg: int) -> Tensor | None:
    """The state from which the first `<|reg|>` was chosen, (1, hidden).

    As published, one that opens the reply does not count: the weights never wrote it there in training.
    """
    try:
        place = written.ids.index(reg, 1)
    except ValueError:
        return None
    return written.states[place, None]


@torch.inference_mode()
def _candidates(cast: Cast, prefix: Prefix, state: Tensor, window: Span, nms_iou: float) -> list[Candidate]:
    decoder = cast.backbone.decoder
    if decoder is None or prefix.frame_states is None:
        raise MissingRole("the checkpoint has no timestamp decoder")
    spans, confidences = best_spans(decoder(prefix.frame_states, state.float()), nms_iou, _KEPT_SPANS)
    seconds = _round(spans * window.length, window.length)
    return [
        Candidate(Span.clamped(start, end, window.length).shifted(window.start), confidence)
        for (start, end), confidence in zip(seconds.tolist(), confidences.tolist(), strict=True)
    ]


def _round(seconds: Tensor, length: float) -> Tensor:
    """Clamped to the window and rounded in float32, so that later frame choices fall as published."""
    return torch.round(seconds.clamp(0, length) / _UNIT) * _UNIT


def fallback_candidates(duration: float, verified: bool) -> list[Candidate]:
    """What stands in where nothing was localised: five overlapping thirds for a verifier to choose
    from, or the whole video where there is none (`videomind/eval/infer_auto.py`)."""
    sixth = duration / 6
    spans = [Span(i * sixth, min((i + 2) * sixth, duration)) for i in range(_FALLBACK_SPANS)]
    return [Candidate(span, 0.0, fallback=True) for span in (spans if verified else [Span(0.0, duration)])]
