from pathlib import Path
from typing import get_args

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Role, Step, VideoFacts
from worker.jobs import Request
from worker.media import Source
from worker.store import Store

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
    )


def _through_sql(store: Store, result: Result) -> Result | None:
    source = Source(Path(result.video.path).as_uri(), "0" * 64)
    request = Request(result.question, result.options, result.mode)
    claim = store.claim([store.submit(source, request, result.fingerprint)])[0]
    store.record_facts(claim.video_id, result.video)
    store.finish(claim, result)
    return store.outcomes([claim.analysis_id])[0].result


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=results())
def test_a_result_comes_back_from_sql_exactly_as_it_went_in(store: Store, result: Result):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM videos")
    assert _through_sql(store, result) == result
