from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers import DATABASES
from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Role, Step, VideoFacts, Window
from worker import rows
from worker.jobs import Request, Submission
from worker.store import Checked, Store
from worker.tables import CoverageRow

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
scores = st.floats(0, 1)
spans = st.lists(st.floats(0, 1e6), min_size=2, max_size=2).map(lambda ends: Span(*sorted(ends)))
candidates = st.builds(
    Candidate, spans, scores, st.booleans(), st.none() | scores, st.none() | scores, st.none() | scores
)
plans = st.builds(
    Plan,
    st.lists(st.builds(Step, st.sampled_from(get_args(Role)), st.none() | texts), max_size=4).map(tuple),
    st.none() | texts,
    st.booleans(),
)
windows = st.builds(Window, spans, st.integers(0, 10_000), st.none() | scores)
facts = st.builds(
    VideoFacts,
    path=st.just("/door.mp4"),
    duration=st.floats(0, 1e6),
    frame_rate=st.floats(0, 1000),
    frame_count=st.integers(0, 10**12),
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    codec=texts,
    rotation=st.sampled_from([0, 90, 180, 270]),
    start_time=st.floats(-1e6, 1e9),
)


@st.composite
def results(draw: st.DrawFn) -> Result:
    proposed = tuple(draw(st.lists(candidates, max_size=4)))
    return Result(
        question=draw(texts.filter(str.strip)),
        mode=draw(st.sampled_from(["auto", "ground-answer", "ground", "answer"])),
        options=tuple(draw(st.lists(texts, max_size=3))),
        plan=draw(plans),
        query=draw(st.none() | texts),
        candidates=proposed,
        moments=rank_moments(proposed, draw(texts)),
        answer=draw(st.none() | st.builds(Answer, texts, st.none() | st.sampled_from("ABC"), spans)),
        video=draw(facts),
        fingerprint="f" * 64,
        warnings=tuple(draw(st.lists(texts, max_size=2))),
        seconds=draw(st.dictionaries(st.sampled_from(["decode", "vision", "total"]), st.floats(0, 1e5))),
        windows=tuple(draw(st.lists(windows, max_size=3))),
    )


def _through_sql(store: Store, result: Result, recorded_at: datetime | None) -> Result | None:
    request = Request(result.question, result.options, result.mode)
    minutes = timedelta(minutes=5)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM videos")
    store.submissions.add(Submission("one", "file:///door.mp4", (request,), recorded_at=recorded_at))
    intake = store.submissions.claim("registrar", minutes, 3)
    checked = Checked("0" * 64, 1, result.video, recorded_at, recorded_at and "argument")
    store.intakes.register(intake, checked, result.fingerprint)
    (claim,) = store.analyses.claim("worker", result.fingerprint, minutes, 3)
    assert store.analyses.finish(claim, result)
    return store.analyses.outcomes([claim.analysis_id])[0].result


@pytest.mark.parametrize("database", DATABASES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    result=results(),
    recorded_at=st.none()
    | st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
)
def test_a_result_comes_back_from_sql_exactly_as_it_went_in(
    store: Store, result: Result, recorded_at: datetime | None
):
    assert _through_sql(store, result, recorded_at) == result


@given(
    span=spans, recorded_at=st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
)
def test_an_instant_is_so_many_seconds_after_the_recording_began(span: Span, recorded_at: datetime):
    starts_at, ends_at = rows.instants(span, recorded_at)
    for instant, seconds in ((starts_at, span.start), (ends_at, span.end)):
        if instant is None:  # where there are no dates any more
            assert recorded_at.year > 9980
        else:
            assert abs((instant - recorded_at).total_seconds() - seconds) < 1e-3


def test_what_no_date_can_name_has_no_instant():
    began = datetime(2026, 3, 1, tzinfo=UTC)
    assert rows.instants(Span(1.0, 1e15), began) == (began + timedelta(seconds=1), None)
    assert rows.instants(Span(0.0, 1.0), None) == (None, None)


@given(st.lists(candidates, max_size=5), st.lists(windows, min_size=1, max_size=4))
def test_a_window_is_found_exactly_where_a_candidate_in_it_is_good_enough(
    proposed: list[Candidate], searched: list[Window]
):
    video = VideoFacts("", 1e6, 1.0, 1, 1, 1, "x", 0, 0.0)
    given = {"candidates": tuple(proposed), "windows": tuple(searched), "video": video}
    result = Result(
        "q",
        "auto",
        (),
        Plan(()),
        None,
        moments=(),
        answer=None,
        fingerprint="",
        warnings=(),
        seconds={},
        **given,
    )
    made = rows.result_rows(1, result, None)[CoverageRow]
    assert [(row["position"], row["frames"]) for row in made] == [
        (place, window.frames) for place, window in enumerate(searched, start=1)
    ]
    for row, window in zip(made, searched, strict=True):
        inside = [c for c in proposed if not c.fallback and c.span.intersection(window.span) > 0]
        judged = [c.confidence if c.verifier_score is None else c.verifier_score for c in inside]
        assert row["best_score"] == max(judged, default=None)
        assert (row["verdict"] == "found") == any(score >= rows.FOUND_SCORE for score in judged)
