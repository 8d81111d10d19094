import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.errors import CheckpointError, NoFrames
from vm.moments import Span
from worker import backtest
from worker.backtest import EXAMPLES, Example, Trial, spread, sum_up
from worker.errors import InvalidRule
from worker.events import Stretch
from worker.settings import Settings
from worker.standing import Footage, Standing

EIGHT = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
HOUR = 3600.0


def _footage(number: int, hours: float = 0.0, source_id: int | None = 1, timed: bool = True) -> Footage:
    """An hour of video."""
    began = EIGHT + timedelta(hours=hours)
    uri = f"file:///{number}.mp4"
    return Footage(number, uri, f"{number:064}", source_id, HOUR, began, began if timed else None)


def _trial(
    footage: Footage, *seen: tuple[float, float], score: float = 0.6, seconds: float = 1800.0
) -> Trial:
    offset = footage.recorded_at.timestamp() if footage.recorded_at else 0.0
    stretches = tuple(Stretch(a + offset, b + offset, a == 0, b == HOUR) for a, b in seen)
    example = Example(footage, Span(*seen[0]), score, None, None) if seen else None
    return Trial(footage, stretches, example, seconds)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 5))
def test_a_sample_has_a_video_of_every_part_of_the_time_each_once(videos: int, count: int, seed: int):
    archive = [_footage(number) for number in range(videos)]
    sample = spread(archive, count, seed)
    places = [each.video_id for each in sample]
    assert len(places) == min(videos, count)
    assert places == sorted(set(places))
    if videos > count:
        assert all(videos * n // count <= place < videos * (n + 1) // count for n, place in enumerate(places))


def test_hits_and_compute_of_a_day_are_those_of_an_hour_times_the_hours_recorded_a_day():
    archive = [_footage(number, hours=4 * number) for number in range(12)]  # 12 hours within 45
    report = sum_up(archive, [_trial(archive[0], (10, 20), (90, 99)), _trial(archive[6])], failed=1)
    assert (report.days, report.archive_hours, report.hours, report.hits) == (45 / 24, 12.0, 2.0, 2)
    assert report.hours_a_day == pytest.approx(6.4)
    assert report.hits_a_day == pytest.approx(6.4)
    assert report.compute_rate == pytest.approx(0.5)
    assert report.compute_hours_a_day == pytest.approx(3.2)
    assert (report.videos, report.failed, report.archive_videos) == (2, 1, 12)


def test_less_than_a_day_counts_as_a_day():
    archive = [_footage(0), _footage(1, hours=1)]
    assert sum_up(archive, [_trial(archive[0], (1, 2))], failed=0).hits_a_day == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("other", "hits"),
    [
        (_footage(1, hours=1), 1),
        (_footage(1, hours=1, source_id=2), 2),
        (_footage(1, hours=1, timed=False), 2),
        (_footage(1, hours=2), 2),
    ],
    ids=["the next file", "another camera", "nobody knows when", "later"],
)
def test_what_two_files_show_is_one_hit_as_it_would_be(other: Footage, hits: int):
    first = _footage(0)
    trials = [_trial(first, (3590, HOUR)), _trial(other, (0.0, 20))]
    assert sum_up([first, other], trials, failed=0).hits == hits


def test_the_best_examples_of_all_are_shown():
    archive = [_footage(number, hours=number) for number in range(12)]
    trials = [_trial(each, (1, 2), score=each.video_id / 20) for each in archive]
    shown = [example.footage.video_id for example in sum_up(archive, trials, failed=0).examples]
    assert shown == [11, 10, 9, 8, 7, 6, 5, 4]
    assert len(shown) == EXAMPLES


def test_nothing_watched_tells_nothing():
    with pytest.raises(InvalidRule, match="no video could be watched"):
        sum_up([_footage(0)], [], failed=1)


def test_what_cannot_be_watched_is_told_and_an_interruption_ends_it(mind, source, settings: Settings):
    here = Footage(1, source.uri, source.sha256, 1, 2.0, EIGHT, EIGHT)

    def look(question: str, *sample: Footage) -> tuple[list[Trial], list[int]]:
        gone: list[int] = []
        standing = Standing(question, "depot")
        trials = backtest.watch(
            mind,
            standing,
            sample,
            settings,
            lambda *_: None,
            lambda footage, _: gone.append(footage.video_id),
            draws=False,
        )
        return list(trials), gone

    def refuse(error: BaseException):
        def answer() -> None:
            raise error

        return answer

    mind.answers["bad"] = refuse(NoFrames("none"))
    mind.answers["interrupted"] = refuse(KeyboardInterrupt())
    (trial,), gone = look("good", _footage(7), here)
    assert (gone, trial.footage, len(trial.seen)) == ([7], here, 1)
    assert trial.example.score == 0.7
    assert look("bad", here) == ([], [1])
    with pytest.raises(KeyboardInterrupt):
        look("interrupted", here)


def test_how_far_it_is_is_told_before_each_video_and_at_each_stage(mind, source, settings: Settings):
    here = Footage(1, source.uri, source.sha256, 1, 2.0, EIGHT, EIGHT)
    told: list[tuple[str, float]] = []

    def report(stage: str, done: float) -> None:
        told.append((stage, done))

    trials = backtest.watch(
        mind, Standing("Who?", "depot"), [here, here], settings, report, lambda *_: None, draws=False
    )
    assert len(list(trials)) == 2
    assert told == [("1 of 2", 0.0), ("1 of 2: grounder", 0.0), ("2 of 2", 0.5), ("2 of 2: grounder", 0.5)]


def test_nothing_that_was_kept_of_a_video_makes_it_look_cheap(mind, source, settings: Settings):
    here = Footage(1, source.uri, source.sha256, 1, 2.0, EIGHT, EIGHT)
    list(
        backtest.watch(
            mind, Standing("Who?", "depot"), [here], settings, lambda *_: None, lambda *_: None, draws=False
        )
    )
    assert mind.hashes == [None]


def test_where_nothing_can_be_asked_no_other_video_is_tried(mind, source, settings: Settings):
    here = Footage(1, source.uri, source.sha256, 1, 2.0, EIGHT, EIGHT)

    def refuse() -> None:
        raise CheckpointError("no planner")

    mind.answers["Who?"] = refuse
    standing, gone = Standing("Who?", "depot"), []
    trials = backtest.watch(
        mind, standing, [here, here], settings, lambda *_: None, lambda *told: gone.append(told), draws=False
    )
    with pytest.raises(CheckpointError):
        list(trials)
    assert (mind.asked, gone) == (["Who?"], [])


def test_frames_are_read_for_examples_that_may_be_shown_and_only_where_they_are_wanted(
    mind, source, settings: Settings
):
    here = Footage(1, source.uri, source.sha256, 1, 2.0, EIGHT, EIGHT)

    def drawn(draws: bool) -> list[bool]:
        sample = [here] * (EXAMPLES + 1)
        trials = backtest.watch(
            mind, Standing("Who?", "depot"), sample, settings, lambda *_: None, lambda *_: None, draws=draws
        )
        return [bool(trial.example.strip) for trial in trials]

    assert drawn(True) == [True] * EXAMPLES + [False]
    assert not any(drawn(False))


def test_neither_report_shows_what_is_secret_in_a_url_or_moves_the_cursor():
    uri = "https://cam:hidden@host/\x1b[2J0800.mp4?key=hidden"
    footage = replace(_footage(0), uri=uri)
    trial = _trial(footage, (1, 2))
    seen = replace(trial, example=replace(trial.example, answer="\x1b[31mred"))
    report = sum_up([footage], [seen], failed=0)
    for shown in ("\n".join(report.lines()), json.dumps(report.to_dict())):
        assert "0800.mp4" in shown
        assert "hidden" not in shown
        assert "\x1b" not in shown


def test_where_nobody_knows_when_it_was_recorded_an_example_has_no_instant():
    archive = [_footage(0, timed=False)]
    report = sum_up(archive, [_trial(archive[0], (1, 2))], failed=0)
    assert report.to_dict()["examples"][0]["starts_at"] is None
    assert report.examples[0].caption == "0.60  0.mp4  0:01.0 - 0:02.0"


def test_without_a_hit_none_is_expected_and_the_cost_is_told():
    archive = [_footage(0), _footage(1, hours=1)]
    report = sum_up(archive, [_trial(archive[0])], failed=0)
    assert (report.hits_a_day, report.examples) == (0.0, ())
    assert report.compute_hours_a_day == pytest.approx(1.0)
