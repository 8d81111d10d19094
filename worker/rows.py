"""Between rows and dataclasses, both ways. Asks the database nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, cast

from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Mode, Plan, Result, Step, VideoFacts, Window
from vm.subtitles import Cue
from worker.columns import Columns
from worker.jobs import NORMAL, AskSettings, Claim, Lease, Outcome, Request, Submission, Verdict
from worker.masking import masked
from worker.sources.local import local_path
from worker.tables import (
    Analysis,
    AnswerRow,
    Base,
    CandidateRow,
    CoverageRow,
    MomentRow,
    RequestRow,
    Scored,
    Video,
)
from worker.tables import Submission as SubmissionRow

FOUND_SCORE = 0.5
"""A window is said to hold a moment from here on: the verifier finds Yes likelier than No."""
LONGEST_RECORDING = 1e9
"""Seconds, about thirty years. What a file claims to be later than that has no instant."""


def new_job(moment: object, priority: int = NORMAL) -> dict[str, Any]:
    """The columns of work that nobody has touched yet.

    Args:
        moment: now, as a time or as what a statement calls it.
    """
    return {**untouched(priority), "submitted_at": moment}


def untouched(priority: int = NORMAL) -> dict[str, Any]:
    """The same, but for when it was asked for."""
    return {**_WAITING, "fence": 0, "priority": priority}


def asked_anew(moment: object) -> dict[str, Any]:
    """The columns of work that is begun from the start, as if it had just been submitted.

    All but its fence: who worked on it before must not write any more.
    """
    return {**_WAITING, "submitted_at": moment}


_WAITING: dict[str, Any] = {
    "state": "queued",
    "cancel_requested": False,
    "attempts": 0,
    "losses": 0,
    **dict.fromkeys(("not_before", "error_code", "error_message", "started_at", "finished_at")),
}


def request_of(row: Analysis | RequestRow | Columns) -> Request:
    cues = tuple(Cue(Span(cue["start"], cue["end"]), cue["text"]) for cue in row.subtitles or ())
    settings = AskSettings(**row.settings)
    return Request(row.question, tuple(row.options), cast(Mode, row.mode), settings, cues)


def request_columns(request: Request) -> dict[str, Any]:
    """What is asked, in the columns that a submission's requests and analyses share."""
    return {
        "question": request.question,
        "options": list(request.options),
        "subtitles": _stored(request.subtitles),
        "mode": request.mode,
        "settings": asdict(request.settings),
    }


REQUEST_COLUMNS = ("question", "options", "subtitles", "mode", "settings")
"""Their names."""


def _stored(cues: Sequence[Cue]) -> list[dict[str, Any]] | None:
    return [{"start": cue.span.start, "end": cue.span.end, "text": cue.text} for cue in cues] or None


def submission_columns(submission: Submission) -> dict[str, Any]:
    """The columns of a submission that nobody has touched yet; of its URLs what may be shown."""
    return {
        "key": submission.key,
        "uri": masked(submission.uri),
        "collection": submission.collection,
        "source": submission.source,
        "recorded_at": submission.recorded_at,
        "force": submission.force,
        "callback_url": submission.callback_url and masked(submission.callback_url),
        "callback_attempts": 0,
        **untouched(submission.priority),
    }


_SUBMITTED = (
    "key",
    "uri",
    "collection",
    "source",
    "recorded_at",
    "force",
    "callback_url",
    "callback_attempts",
)
SUBMISSION_COLUMNS = (*_SUBMITTED, *untouched())
"""Their names."""


def request_rows(submission: Submission) -> list[dict[str, Any]]:
    """The columns of its requests, but for whose they are."""
    return [
        {"position": place, "analysis_id": None, **request_columns(request)}
        for place, request in enumerate(submission.requests, start=1)
    ]


def submission_of(row: SubmissionRow | Columns, requests: Sequence[Columns]) -> Submission:
    return Submission(
        key=row.key,
        uri=row.uri,
        requests=tuple(map(request_of, requests)),
        collection=row.collection,
        source=row.source,
        recorded_at=row.recorded_at,
        priority=row.priority,
        callback_url=row.callback_url,
        force=row.force,
    )


def claim_of(row: Columns, uri: str) -> Claim:
    return Claim(
        Lease(row.id, row.fence),
        row.attempts,
        row.video_id,
        uri,
        row.sha256,
        row.recorded_at,
        row.duration,
        row.followed,
        request_of(row),
        row.fingerprint,
        row.priority,
    )


def outcome_of(row: Analysis) -> Outcome:
    result = result_of(row) if row.state == "succeeded" else None
    return Outcome(
        row.id, row.video.shown_uri, row.question, row.state, row.error_code, row.error_message, result
    )


def result_of(row: Analysis) -> Result:
    """The stored result, as the library gave it. The row must have succeeded."""
    return Result(
        question=row.question,
        mode=cast(Mode, row.mode),
        options=tuple(row.options),
        plan=_plan(row.plan or {}),
        query=row.query,
        candidates=tuple(_candidate(candidate) for candidate in row.candidates),
        moments=tuple(Moment(_candidate(moment), moment.rank, moment.query) for moment in row.moments),
        answer=_answer(row.answer) if row.answer else None,
        video=_facts(row.video),
        fingerprint=row.fingerprint,
        warnings=tuple(row.warnings or ()),
        seconds=row.seconds or {},
        windows=tuple(_window(window) for window in row.coverage if window.verdict in _SEARCHED),
    )


def result_columns(result: Result) -> dict[str, Any]:
    """The columns of `analyses` that a result fills."""
    return {
        "plan": result.to_dict()["plan"],
        "plan_fallback": result.plan.fallback,
        "query": result.query,
        "warnings": list(result.warnings),
        "seconds": dict(result.seconds),
        "compute_seconds": result.seconds.get("total"),
    }


RESULT_COLUMNS = ("plan", "plan_fallback", "query", "warnings", "seconds", "compute_seconds")
"""Their names."""


def result_rows(
    analysis_id: int, result: Result, recorded_at: datetime | None
) -> dict[type[Base], list[dict[str, Any]]]:
    """The columns of the rows below an analysis that a result makes, by table.

    Args:
        recorded_at: when the recording began, if that is known.
    """
    of = {"analysis_id": analysis_id}
    candidates = [
        {**of, "position": place, **_scored(candidate, recorded_at)}
        for place, candidate in enumerate(result.candidates, start=1)
    ]
    moments = [
        {**of, "rank": moment.rank, "query": moment.query, **_scored(moment.candidate, recorded_at)}
        for moment in result.moments
    ]
    made: dict[type[Base], list[dict[str, Any]]] = {
        CandidateRow: candidates,
        MomentRow: moments,
        AnswerRow: [_answer_columns(analysis_id, result.answer, recorded_at)] if result.answer else [],
        CoverageRow: _coverage(analysis_id, result, recorded_at),
    }
    return {table: columns for table, columns in made.items() if columns}


def _coverage(analysis_id: int, result: Result, recorded_at: datetime | None) -> list[dict[str, Any]]:
    """One row for each window that was searched; one that says so where none was."""
    if not result.windows:
        whole = Window(Span(0.0, result.video.duration), 0, None)
        return [_covered(analysis_id, 1, whole, None, "not_searched", recorded_at)]
    found = []
    for position, window in enumerate(result.windows, start=1):
        scores = [_score(c) for c in result.candidates if window.span.intersection(c.span) and not c.fallback]
        best = max(scores, default=None)
        verdict: Verdict = "found" if best is not None and best >= FOUND_SCORE else "nothing_found"
        found.append(_covered(analysis_id, position, window, best, verdict, recorded_at))
    return found


def _score(candidate: Candidate) -> float:
    score = candidate.verifier_score
    return candidate.confidence if score is None else score


def _covered(
    analysis_id: int,
    position: int,
    window: Window,
    best: float | None,
    verdict: Verdict,
    recorded_at: datetime | None,
) -> dict[str, Any]:
    return {
        "analysis_id": analysis_id,
        "position": position,
        "frames": window.frames,
        "best_confidence": window.confidence,
        "best_score": best,
        "verdict": verdict,
        **_spanned(window.span, recorded_at),
    }


def unsearched(row: Analysis) -> CoverageRow:
    """What an analysis that has ended without a result says of its video, whose duration is known."""
    whole = Window(Span(0.0, row.video.duration or 0.0), 0, None)
    verdict: Verdict = "failed" if row.state == "failed" else "not_searched"
    return CoverageRow(**_covered(row.id, 1, whole, None, verdict, row.video.recorded_at))


_SEARCHED = ("found", "nothing_found")


def _window(row: CoverageRow) -> Window:
    return Window(Span(row.start_seconds, row.end_seconds), row.frames, row.best_confidence)


def fact_columns(facts: VideoFacts) -> dict[str, Any]:
    """The columns of `videos` that opening the file fills. The path is the source's business."""
    return {name: value for name, value in vars(facts).items() if name != "path"}


def _facts(row: Video) -> VideoFacts:
    names = VideoFacts.__dataclass_fields__.keys() - {"path"}
    return VideoFacts(path=str(local_path(row.shown_uri)), **{name: getattr(row, name) for name in names})


def _plan(stored: dict[str, Any]) -> Plan:
    steps = tuple(Step(step["role"], step["query"]) for step in stored["steps"])
    return Plan(steps, stored["text"], stored["fallback"])


def _candidate(row: Scored) -> Candidate:
    span = Span(row.start_seconds, row.end_seconds)
    return Candidate(span, row.confidence, row.fallback, row.p_yes, row.p_no, row.verifier_score)


def _spanned(span: Span, recorded_at: datetime | None) -> dict[str, Any]:
    starts_at, ends_at = instants(span, recorded_at)
    return {
        "start_seconds": span.start,
        "end_seconds": span.end,
        "starts_at": starts_at,
        "ends_at": ends_at,
    }


def instants(span: Span, recorded_at: datetime | None) -> tuple[datetime | None, datetime | None]:
    """When a span of a recording was, as far as that is known."""
    return _instant(recorded_at, span.start), _instant(recorded_at, span.end)


def _instant(recorded_at: datetime | None, seconds: float) -> datetime | None:
    """A file may claim to last for longer than there are dates."""
    if recorded_at is None or seconds > LONGEST_RECORDING:
        return None
    try:
        return recorded_at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _scored(candidate: Candidate, recorded_at: datetime | None) -> dict[str, Any]:
    return {
        **_spanned(candidate.span, recorded_at),
        "confidence": candidate.confidence,
        "p_yes": candidate.p_yes,
        "p_no": candidate.p_no,
        "verifier_score": candidate.verifier_score,
        "fallback": candidate.fallback,
    }


def _answer(row: AnswerRow) -> Answer:
    return Answer(row.text, row.option, Span(row.start_seconds, row.end_seconds))


def _answer_columns(analysis_id: int, answer: Answer, recorded_at: datetime | None) -> dict[str, Any]:
    return {
        "analysis_id": analysis_id,
        "text": answer.text,
        "option": answer.option,
        **_spanned(answer.span, recorded_at),
    }
