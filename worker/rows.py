"""Between rows and dataclasses, both ways. Asks the database nothing."""

from __future__ import annotations

from typing import Any, cast

from vm.moments import Candidate, Moment, Span
from vm.result import Answer, Mode, Plan, Result, Step, VideoFacts
from worker.jobs import AskSettings, Claim, Outcome, Request
from worker.media import local_path
from worker.tables import Analysis, AnswerRow, CandidateRow, MomentRow, Scored, Video


def request_of(row: Analysis) -> Request:
    return Request(row.question, tuple(row.options), cast(Mode, row.mode), AskSettings(**row.settings))


def claim_of(row: Analysis) -> Claim:
    return Claim(row.id, row.attempts, row.video_id, row.video.uri, request_of(row), row.fingerprint)


def outcome_of(row: Analysis) -> Outcome:
    result = result_of(row) if row.state == "succeeded" else None
    return Outcome(row.id, row.video.uri, row.question, row.state, row.error_code, row.error_message, result)


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
    )


def result_columns(result: Result) -> dict[str, Any]:
    """The columns of `analyses` that a result fills."""
    return {
        "plan": result.to_dict()["plan"],
        "plan_fallback": result.plan.fallback,
        "query": result.query,
        "warnings": list(result.warnings),
        "seconds": dict(result.seconds),
    }


def result_rows(analysis_id: int, result: Result) -> list[CandidateRow | MomentRow | AnswerRow]:
    """The rows below an analysis that a result makes."""
    candidates = [
        CandidateRow(analysis_id=analysis_id, position=position, **_scored(candidate))
        for position, candidate in enumerate(result.candidates, start=1)
    ]
    moments = [
        MomentRow(analysis_id=analysis_id, rank=moment.rank, query=moment.query, **_scored(moment.candidate))
        for moment in result.moments
    ]
    answers = [_answer_row(analysis_id, result.answer)] if result.answer else []
    return [*candidates, *moments, *answers]


def fact_columns(facts: VideoFacts) -> dict[str, Any]:
    """The columns of `videos` that opening the file fills. The path is the source's business."""
    return {name: value for name, value in vars(facts).items() if name != "path"}


def _facts(row: Video) -> VideoFacts:
    names = VideoFacts.__dataclass_fields__.keys() - {"path"}
    return VideoFacts(path=str(local_path(row.uri)), **{name: getattr(row, name) for name in names})


def _plan(stored: dict[str, Any]) -> Plan:
    steps = tuple(Step(step["role"], step["query"]) for step in stored["steps"])
    return Plan(steps, stored["text"], stored["fallback"])


def _candidate(row: Scored) -> Candidate:
    span = Span(row.start_seconds, row.end_seconds)
    return Candidate(span, row.confidence, row.fallback, row.p_yes, row.p_no, row.verifier_score)


def _scored(candidate: Candidate) -> dict[str, Any]:
    return {
        "start_seconds": candidate.span.start,
        "end_seconds": candidate.span.end,
        "confidence": candidate.confidence,
        "p_yes": candidate.p_yes,
        "p_no": candidate.p_no,
        "verifier_score": candidate.verifier_score,
        "fallback": candidate.fallback,
    }


def _answer(row: AnswerRow) -> Answer:
    return Answer(row.text, row.option, Span(row.start_seconds, row.end_seconds))


def _answer_row(analysis_id: int, answer: Answer) -> AnswerRow:
    span = answer.span
    return AnswerRow(
        analysis_id=analysis_id,
        text=answer.text,
        option=answer.option,
        start_seconds=span.start,
        end_seconds=span.end,
    )
