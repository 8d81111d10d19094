"""The Chain-of-LoRA: plan, ground, verify, answer (paper section 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vm.cast import Cast
from vm.config import ChainSettings
from vm.errors import QuestionError
from vm.footage import Footage
from vm.moments import Candidate, Moment, Span, rank_moments, suppress
from vm.result import ROUTES, Mode, Plan, Result, Window
from vm.roles.answerer import MAX_OPTIONS, answer
from vm.roles.grounder import fallback_candidates, ground
from vm.roles.planner import default_steps, fixed_steps, fold_query, plan
from vm.roles.verifier import verify
from vm.subtitles import Cue
from vm.text_file import is_unicode

Progress = Callable[[str, float], None]

MAX_QUESTION_CHARACTERS = 4000


@dataclass(frozen=True)
class Request:
    """What is asked of a video.

    Raises:
        QuestionError: nothing is asked, far too much, or the options make no choice.
    """

    question: str
    mode: Mode = "auto"
    options: tuple[str, ...] = ()
    subtitles: tuple[Cue, ...] = ()

    def __post_init__(self) -> None:
        if not fold_query(self.question):
            raise QuestionError("the question is empty")
        if sum(map(len, (self.question, *self.options))) > MAX_QUESTION_CHARACTERS:
            raise QuestionError(f"question and options are longer than {MAX_QUESTION_CHARACTERS} characters")
        if not all(map(is_unicode, (self.question, *self.options))):
            raise QuestionError("question and options must be valid Unicode text")
        if self.mode not in ROUTES and self.mode != "auto":
            raise QuestionError(f"unknown mode {self.mode!r}: choose auto, {', '.join(ROUTES)}")
        if self.options and not (
            2 <= len(self.options) <= MAX_OPTIONS and all(o.strip() for o in self.options)
        ):
            raise QuestionError(f"give between 2 and {MAX_OPTIONS} options, none of them empty")


def run_chain(
    cast: Cast,
    footage: Footage,
    request: Request,
    chain: ChainSettings,
    fingerprint: str,
    progress: Progress,
) -> Result:
    """Answer one question about one open video.

    Args:
        progress: called with a stage and the fraction of the whole done, 0 to 1, before each stage
            and between windows; what it raises ends the chain there.
    """
    progress("planner", 0.0)
    agreed = _agree_on_plan(cast, footage, request, chain)
    query = fold_query(agreed.query or request.question) if agreed.grounds else None

    candidates: Sequence[Candidate] = ()
    windows: Sequence[Window] = ()
    if query is not None:
        candidates, windows = _ground(cast, footage, query, chain, progress)
        if _verifies(cast, chain) and len(candidates) > 1:
            progress("verifier", 0.7)
            candidates = verify(cast, footage, request.question, candidates, chain)
    moments = rank_moments(candidates, query or "", cast.settings("verifier").confidence_weight)

    reply = None
    if agreed.answers:
        progress("answerer", 0.9)
        segment = _segment(moments, footage.duration, _least_shown(cast, chain))
        reply = answer(cast, footage, request.question, segment, request.options, request.subtitles)
    progress("done", 1.0)
    return Result(
        question=request.question,
        mode=request.mode,
        options=request.options,
        plan=agreed,
        query=query,
        candidates=tuple(candidates),
        moments=moments,
        answer=reply,
        video=footage.reader.info,
        fingerprint=fingerprint,
        warnings=_warnings(footage, candidates),
        seconds=footage.stopwatch.lap(),
        windows=tuple(windows),
    )


def _agree_on_plan(cast: Cast, footage: Footage, request: Request, chain: ChainSettings) -> Plan:
    """The planner's plan, or the fixed one of a given mode; without a planner, ground and answer."""
    if request.mode != "auto":
        return Plan(fixed_steps(request.mode, request.question))
    if not cast.has("planner"):
        return Plan(default_steps(request.question))
    if len(grounding_windows(footage.duration, chain)) == 1:  # the grounder will most likely look next
        footage.fetch([footage.view(cast.settings(role)) for role in ("planner", "grounder")])
    return plan(cast, footage, request.question)


def _ground(
    cast: Cast, footage: Footage, query: str, chain: ChainSettings, progress: Progress
) -> tuple[list[Candidate], list[Window]]:
    """The best candidates of all windows, most confident first, and the windows."""
    spans = grounding_windows(footage.duration, chain)
    found: list[Candidate] = []
    windows = []
    for number, span in enumerate(spans):
        progress("grounder", 0.2 + 0.5 * number / len(spans))
        here = ground(cast, footage, query, span, chain.nms_iou)
        frames = len(footage.view(cast.settings("grounder"), span).indices)
        windows.append(Window(span, frames, here[0].confidence if here else None))
        found += here
    if not found:
        return fallback_candidates(footage.duration, _verifies(cast, chain)), windows
    if len(spans) > 1:  # a single pass comes back suppressed, in the order that decides among equals
        found = suppress(found, chain.nms_iou, chain.candidates)
    return found[: chain.candidates], windows


def _verifies(cast: Cast, chain: ChainSettings) -> bool:
    return chain.verify and cast.has("verifier")


def grounding_windows(duration: float, chain: ChainSettings) -> list[Span]:
    """Stretches (seconds) that cover the video, each overlapping the next; one where it is not long."""
    if chain.window is None or duration <= max(chain.long_video, chain.window):
        return [Span(0.0, duration)]
    count = math.ceil((duration - chain.window_overlap) / (chain.window - chain.window_overlap))
    last = duration - chain.window
    starts = (last * number / (count - 1) for number in range(count))
    return [Span(start, min(start + chain.window, duration)) for start in starts]


def _least_shown(cast: Cast, chain: ChainSettings) -> float:
    """The least seconds the answerer is shown: as asked for, or else as the checkpoint has it."""
    least = chain.min_answer_seconds
    return cast.settings("answerer").min_seconds if least is None else least


def _segment(moments: Sequence[Moment], duration: float, least: float) -> Span:
    """What the answerer is shown: the best moment and what surrounds it, or the whole video."""
    if not moments:
        return Span(0.0, duration)
    return moments[0].span.grown(least, duration)


def _warnings(footage: Footage, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    warnings = list(dict.fromkeys(footage.reader.warnings))
    if any(candidate.fallback for candidate in candidates):
        warnings.append("the grounder localised nothing; the moments are fixed stretches, not found ones")
    return tuple(warnings)
