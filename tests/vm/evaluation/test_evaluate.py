"""Samples through the real miniature, whose answers mean nothing; who was asked what does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

import vm.chain
from tests.vm.evaluation.made import prediction, sample
from vm.config import ChainSettings
from vm.errors import CheckpointError, MissingRole
from vm.evaluation.evaluate import System, guess, plan_tasks, run_tasks
from vm.evaluation.journal import Journal
from vm.evaluation.samples import Prediction, Sample
from vm.mind import VideoMind, Watched
from vm.moments import Span
from vm.result import Plan, Step

CHAIN = System("chain")
SHORT = ChainSettings(min_answer_seconds=2.0)
QUESTION = "Why did the man appear?"


@pytest.fixture
def asked(short_video: Path) -> list[Sample]:
    """One question with options, one without; the miniature's planner grounds both."""
    return [
        sample(str(short_video), QUESTION, options=("red", "blue"), answer="red"),
        sample(str(short_video), "When is it red?"),
    ]


def _noting(name: str, work: Any, roles: list[str]) -> Any:
    return lambda *given: roles.append(name) or work(*given)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roles that worked, in order."""
    roles: list[str] = []
    for name in ("plan", "ground", "verify", "answer"):
        monkeypatch.setattr(vm.chain, name, _noting(name, getattr(vm.chain, name), roles))
    return roles


def run(
    mind: VideoMind,
    samples: Sequence[Sample],
    *systems: System,
    journal: Journal | None = None,
    chain: ChainSettings = SHORT,
) -> list[Prediction]:
    tasks = plan_tasks(mind, systems or [CHAIN], samples, chain)
    return run_tasks(mind, tasks, chain, journal or Journal(), lambda stage, done: None)


def test_a_prediction_is_what_the_chain_found(mind: VideoMind, asked: list[Sample]) -> None:
    found = run(mind, asked)[0]
    with mind.open(asked[0].video) as watched:
        result = watched.ask(QUESTION, options=("red", "blue"), min_answer_seconds=2.0)
    assert result.answer is not None
    assert found.spans == tuple(moment.span for moment in result.moments)
    assert found.confidences == tuple(moment.candidate.confidence for moment in result.moments)
    assert (found.route, found.planned) == ("ground-answer", True)
    assert (found.query, found.reply) == (result.query, result.answer.option)
    assert (found.duration, found.fallback) == (result.video.duration, False)
    assert (found.sample, found.system, found.fingerprint) == (asked[0].id, "chain", mind.fingerprint)


@pytest.mark.parametrize(
    ("system", "with_options", "without"),
    [
        (CHAIN, ["plan", "ground", "verify", "answer"], ["plan", "ground", "verify", "answer"]),
        (replace(CHAIN, verifier=False), ["plan", "ground", "answer"], ["plan", "ground", "answer"]),
        (replace(CHAIN, planner=False), ["ground", "verify", "answer"], ["ground", "verify"]),
        (System("bare", planner=False, verifier=False), ["ground", "answer"], ["ground"]),
        (System("whole", whole_video=True), ["answer"], []),
    ],
    ids=["chain", "no verifier", "no planner", "neither", "whole video"],
)
def test_switches_decide_who_works(
    mind: VideoMind,
    asked: list[Sample],
    played: list[str],
    monkeypatch: pytest.MonkeyPatch,
    system: System,
    with_options: list[str],
    without: list[str],
) -> None:
    planned = Plan((Step("grounder", "a dog"), Step("verifier"), Step("answerer")), text="[…]")
    monkeypatch.setattr(vm.chain, "plan", lambda *given: played.append("plan") or planned)
    for one, roles in zip(asked, (with_options, without), strict=True):
        played.clear()
        (found,) = run(mind, [one], system)
        assert played == roles
        assert found.planned is ("plan" in roles)
        assert found.error is None


def test_without_the_verifier_the_grounders_order_stands(mind: VideoMind, asked: list[Sample]) -> None:
    longer = sample(str(Path(asked[0].video).with_name("short24s.mp4")), QUESTION)
    verified, unverified = run(mind, [longer], CHAIN, replace(CHAIN, name="bare", verifier=False))
    assert list(unverified.confidences) == sorted(unverified.confidences, reverse=True)
    assert sorted(verified.spans) == sorted(unverified.spans)
    assert verified.spans != unverified.spans


def test_without_the_planner_the_question_itself_is_grounded(mind: VideoMind, asked: list[Sample]) -> None:
    (found,) = run(mind, asked[:1], replace(CHAIN, planner=False))
    assert (found.query, found.route, found.planned) == (QUESTION, None, False)


def test_a_planner_may_send_a_question_the_wrong_way(
    mind: VideoMind, asked: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm.chain, "plan", lambda *given: Plan((Step("answerer"),), text="[…]"))
    (found,) = run(mind, asked[:1])
    assert (found.route, found.spans, found.query) == ("answer", (), None)
    assert found.reply in ("A", "B")


def test_the_whole_video_is_a_moment_as_long_as_the_video(mind: VideoMind, asked: list[Sample]) -> None:
    for found in run(mind, asked, System("whole video", whole_video=True)):
        assert found.duration is not None
        assert found.spans == (Span(0, found.duration),)


def test_a_video_is_opened_once_for_all_questions_and_systems(
    mind: VideoMind, asked: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_one = mind.open
    monkeypatch.setattr(mind, "open", lambda video, chain: opened.append(video) or open_one(video, chain))
    other = sample(str(Path(asked[0].video).with_name("portrait9s.mp4")), "When?")
    found = run(mind, [asked[0], other, asked[1]], CHAIN, System("whole video", whole_video=True))
    assert opened == [asked[0].video, other.video]
    assert len(found) == 6


def test_an_unreadable_video_fails_its_questions_and_no_others(
    mind: VideoMind, asked: list[Sample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    samples = [sample(str(broken)), sample(str(tmp_path / "gone.mp4"), duration=9), asked[0]]
    bad, gone, good = run(mind, samples)
    assert bad.error is not None
    assert "broken.mp4" in bad.error
    assert "gone.mp4" in (gone.error or "")
    assert (bad.duration, gone.duration, gone.spans, gone.reply) == (None, 9, (), None)
    assert good.error is None


def test_a_question_that_cannot_be_asked_fails_alone(mind: VideoMind, asked: list[Sample]) -> None:
    endless = replace(asked[1], question="why " * 2000)
    failed, good = run(mind, [endless, asked[0]])
    assert "longer than" in (failed.error or "")
    assert failed.duration is not None
    assert good.error is None


def test_a_checkpoint_that_does_not_work_ends_the_run(
    mind: VideoMind, asked: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> Any:
        raise MissingRole("there is no grounder")

    monkeypatch.setattr(vm.chain, "ground", refuse)
    with pytest.raises(CheckpointError, match="no grounder"):
        run(mind, asked, replace(CHAIN, planner=False))


class Ask:
    """Counts questions, and gives up at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.questions: list[str] = []
        self.settings: dict[str, Any] = {}
        self.fails_at: int | None = None
        ask = Watched.ask

        def listen(watched: Watched, question: str, *given: Any, **named: Any) -> Any:
            if len(self.questions) == self.fails_at:
                raise KeyboardInterrupt
            self.questions.append(question)
            self.settings = named
            return ask(watched, question, *given, **named)

        monkeypatch.setattr(Watched, "ask", listen)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    return Ask(monkeypatch)


def test_a_run_goes_on_where_the_last_one_was_interrupted(
    mind: VideoMind, asked: list[Sample], ask: Ask, tmp_path: Path
) -> None:
    whole = run(mind, asked)
    ask.questions.clear()
    ask.fails_at = 1
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path / "kept") as journal:
        run(mind, asked, journal=journal)
    ask.fails_at = None
    with Journal(tmp_path / "kept") as journal:
        assert run(mind, asked, journal=journal) == whole
    assert ask.questions == [one.question for one in asked]


def test_what_is_kept_counts_for_the_same_question_weights_and_settings_only(
    mind: VideoMind, asked: list[Sample], ask: Ask
) -> None:
    journal = Journal()
    run(mind, asked[:1], journal=journal)
    again = run(mind, asked[:1], System("another name"), journal=journal)
    corrected = replace(asked[0], answer="blue", spans=(Span(0, 1),))
    run(mind, [corrected, corrected], journal=journal)
    assert len(ask.questions) == 1
    assert again[0].system == "another name"

    run(mind, [replace(asked[0], options=("red", "green"))], journal=journal)
    run(mind, asked[:1], journal=journal, chain=ChainSettings(min_answer_seconds=3))
    run(mind, asked[:1], replace(CHAIN, verifier=False), journal=journal)
    run(VideoMind(mind.cast, "f00", mind.markers), asked[:1], journal=journal)
    assert len(ask.questions) == 5


def test_the_dtype_the_model_runs_in_is_a_setting(mind: VideoMind, asked: list[Sample]) -> None:
    (before,) = plan_tasks(mind, [CHAIN], asked[:1], SHORT)
    backbone: Any = SimpleNamespace(dtype="bfloat16")
    other = VideoMind(replace(mind.cast, backbone=backbone), mind.fingerprint, mind.markers)
    (after,) = plan_tasks(other, [CHAIN], asked[:1], SHORT)
    assert before.key != after.key


def test_settings_of_the_chain_reach_it(mind: VideoMind, asked: list[Sample], ask: Ask) -> None:
    run(mind, asked[:1], chain=ChainSettings(window=60.0, min_answer_seconds=5.0))
    assert ask.settings == {"window": 60.0, "min_answer_seconds": 5.0, "verify": True}


def test_progress_ends_with_everything_done(mind: VideoMind, asked: list[Sample]) -> None:
    told: list[tuple[str, float]] = []
    tasks = plan_tasks(mind, [CHAIN], asked, SHORT)
    run_tasks(mind, tasks, SHORT, Journal(), lambda stage, done: told.append((stage, done)))
    assert told == [("1 of 2", 0.5), ("2 of 2", 1.0)]


def test_chance_is_fair_and_always_the_same() -> None:
    samples = [sample(question=f"{n}?", options=("a", "b", "c"), answer="a") for n in range(2000)]
    guesses = [guess("random", one, prediction(one)) for one in samples]
    assert guesses == [guess("random", one, prediction(one)) for one in samples]
    assert all(0 <= span.start <= span.end <= 60 for one in guesses for span in one.spans)
    assert {len(one.spans) for one in guesses} == {5}
    for chosen in ([one.reply for one in guesses], [one.route for one in guesses]):
        shares = [count / len(guesses) for count in Counter(chosen).values()]
        assert shares == pytest.approx([1 / 3] * 3, abs=0.05)
    lengths = [one.spans[0].length for one in guesses]
    assert fmean(lengths) == pytest.approx(60 / 3, abs=1)  # of two uniform ends


def test_chance_needs_to_know_how_long_a_video_is() -> None:
    asked = sample()
    found = guess("random", asked, prediction(asked, duration=None, error="no such file"))
    assert (found.error, found.spans, found.reply) == ("no such file", (), None)
