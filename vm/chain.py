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
from vm.questions import check_question
from vm.result import ROUTES, Mode, Plan, Result, Window
from vm.roles.answerer import answer
from vm.roles.grounder import fallback_candidates, ground
from vm.roles.planner import default_steps, fixed_steps, fold_query, plan
from vm.roles.verifier import verify
from vm.subtitles import Cue

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Request:
    """What is asked of a video.

    Raises:
        QuestionError: an unknown mode, or see `check_question`.
    """

    question: str
    mode: Mode = "auto"
    options: tuple[str, ...] = ()
    subtitles: tuple[Cue, ...] = ()

    def __post_init__(self) -> None:
        check_question(self.question, self.options)
        if self.mode not in ROUTES and self.mode != "auto":
            raise QuestionError(f"unknown mode {self.mode!r}: choose auto, {', '.join(ROUTES)}")


@dataclass(frozen=True)
class _Work:
    """How long the stages of a question take beside each other, roughly: the planner 2, the grounder 2 in
    each window, the verifier 3, the answerer 1."""

    plans: bool
    windows: int
    answers: bool

    def grounded(self, windows: int) -> float:
        """The fraction of the whole that is done after so many windows."""
        return (2 * self.plans + 2 * windows) / self._whole

    @property
    def before_answer(self) -> float:
        """The fraction of the whole that is done when all that is left is the answer."""
        return 1 - 1 / self._whole

    @property
    def _whole(self) -> int:
        return 2 * self.plans + 2 * self.windows + 3 * bool(self.windows) + self.answers


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
    spans = grounding_windows(footage.duration, chain) if agreed.grounds else []
    work = _Work(plans=agreed.text is not None, windows=len(spans), answers=agreed.answers)

    candidates: Sequence[Candidate] = ()
    windows: Sequence[Window] = ()
    if query is not None:

        def begins(number: int) -> None:
            progress("grounder", work.grounded(number))

        candidates, windows = _ground(cast, footage, query, spans, chain, begins)
        if _verifies(cast, chain) and len(candidates) > 1:
            progress("verifier", work.grounded(len(spans)))
            candidates = verify(cast, footage, request.question, candidates, chain)
    moments = rank_moments(candidates, query or "", cast.settings("verifier").confidence_weight)

    reply = None
    if agreed.answers:
        progress("answerer", work.before_answer)
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
    cast: Cast,
    footage: Footage,
    query: str,
    spans: Sequence[Span],
    chain: ChainSettings,
    begins: Callable[[int], None],
) -> tuple[list[Candidate], list[Window]]:
    """The best candidates of all windows, most confident first, and the windows.

    Args:
        begins: is told the number of each window.
    """
    found: list[Candidate] = []
    windows = []
    for number, span in enumerate(spans):
        begins(number)
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
