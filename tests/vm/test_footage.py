"""Reuse saves work and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vm import ChainSettings, Result, VideoMind
from vm.errors import OutOfMemory
from vm.footage import Footage
from vm.model.backbone import Backbone
from vm.moments import Candidate, Span
from vm.roles.verifier import verify
from vm.video import VideoReader

PARITY = Path(__file__).parents[1] / "parity"
QUESTIONS = (
    "Why did the dog turn around?",
    "Locate the part where the  blue disc\n leaves",
    "Summarize the video",
)
SPANS = [Span(0, 10.0), Span(4.3, 13.3), Span(0, 2.7), Span(12, 14), Span(0, 10.0)]


@pytest.fixture
def video() -> Path:
    return PARITY / "videos" / "short24s.mp4"


@pytest.fixture
def read_frames(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, tuple[int, int]]]:
    """How often each frame was decoded at each size."""
    counted: Counter[tuple[int, tuple[int, int]]] = Counter()
    read = VideoReader.read

    def counting(self: VideoReader, indices: Any, size: tuple[int, int]) -> Any:
        counted.update((index, size) for index in indices)
        return read(self, indices, size)

    monkeypatch.setattr(VideoReader, "read", counting)
    return counted


@pytest.fixture
def footage(mind: VideoMind, video: Path) -> Iterator[Footage]:
    with mind.open(video) as watched:
        yield watched._footage


def assert_same(one: Result, other: Result) -> None:
    assert (one.plan, one.query, one.answer) == (other.plan, other.query, other.answer)
    assert [c.span for c in one.candidates] == [c.span for c in other.candidates]
    for ours, theirs in zip(one.candidates, other.candidates, strict=True):
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-5)
        assert ours.verifier_score == pytest.approx(theirs.verifier_score, abs=1e-5)


def test_later_questions_on_an_open_video_get_the_answers_a_fresh_one_gives(
    mind: VideoMind, video: Path
) -> None:
    with mind.open(video) as watched:
        later = [watched.ask(question) for question in (*QUESTIONS, *QUESTIONS)]
    for question, result in zip((*QUESTIONS, *QUESTIONS), later, strict=True):
        assert_same(result, mind.ask(video, question))


def test_keeping_nothing_gives_the_same_results(mind: VideoMind, video: Path) -> None:
    with mind.open(video, ChainSettings(reuse_bytes=0)) as forgetful:
        for question in QUESTIONS:
            assert_same(forgetful.ask(question), mind.ask(video, question))


def test_each_frame_is_decoded_once_for_all_roles_and_questions(
    mind: VideoMind, video: Path, read_frames: Counter[Any]
) -> None:
    with mind.open(video) as watched:
        for question in QUESTIONS:
            watched.ask(question)
    assert len(read_frames) > 24
    assert set(read_frames.values()) == {1}


def test_a_repeated_question_decodes_and_encodes_nothing(
    mind: VideoMind, video: Path, read_frames: Counter[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mind.open(video) as watched:
        watched.ask(QUESTIONS[0])
        read_frames.clear()
        monkeypatch.setattr(type(mind.cast.backbone), "encode", None)
        watched.ask(QUESTIONS[0])
    assert not read_frames


def test_candidates_verified_together_score_as_they_do_alone(mind: VideoMind, footage: Footage) -> None:
    candidates = [Candidate(span, 0.5) for span in SPANS]
    together = verify(mind.cast, footage, QUESTIONS[0], candidates, ChainSettings())
    footage.forget()
    alone = [verify(mind.cast, footage, QUESTIONS[0], [one], ChainSettings())[0] for one in candidates]
    assert [c.span for c in together] == SPANS
    for one, other in zip(together, alone, strict=True):
        assert one.p_yes == pytest.approx(other.p_yes, abs=1e-6)
        assert one.p_no == pytest.approx(other.p_no, abs=1e-6)


def test_equal_candidates_share_one_pass(
    mind: VideoMind, footage: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[int] = []
    follow = Footage.follow

    def counting(self: Footage, prefixes: Any, prompts: Any) -> Any:
        followed.append(len(prefixes))
        return follow(self, prefixes, prompts)

    monkeypatch.setattr(Footage, "follow", counting)
    scored = verify(mind.cast, footage, "?", [Candidate(span, 0.5) for span in SPANS], ChainSettings())
    assert followed == [len(set(SPANS))]
    assert scored[0].verifier_score == scored[-1].verifier_score


def test_views_that_share_frames_share_their_features(mind: VideoMind, footage: Footage) -> None:
    planner, grounder = (footage.view(mind.cast.settings(role)) for role in ("planner", "grounder"))
    assert planner == grounder
    first, second = footage.features([planner, grounder])
    assert torch.equal(first, second)
    kept = footage._features.nbytes
    footage.features([grounder])
    assert footage._features.nbytes == kept == first.nbytes


def test_what_is_kept_stays_within_its_bound(mind: VideoMind, video: Path) -> None:
    bound = 4 * 2**20
    with mind.open(video, ChainSettings(reuse_bytes=bound)) as watched:
        for question in QUESTIONS:
            watched.ask(question)
            footage = watched._footage
            held = footage._frames.nbytes + footage._features.nbytes + footage._prefixes.nbytes
            assert 0 < held <= bound


def test_closing_lets_go_of_everything(mind: VideoMind, video: Path) -> None:
    with mind.open(video) as watched:
        watched.ask(QUESTIONS[0])
    footage = watched._footage
    assert footage._frames.nbytes + footage._features.nbytes + footage._prefixes.nbytes == 0


def test_a_prompt_longer_than_the_room_behind_a_prefix_is_read_whole(mind: VideoMind, video: Path) -> None:
    wordy = "Why did the dog turn around, " + "and then once more, " * 150 + "after that?"
    with mind.open(video) as watched:
        watched.ask("What?", mode="answer")
        assert_same(watched.ask(wordy, mode="answer"), mind.ask(video, wordy, mode="answer"))


def test_candidates_the_device_cannot_hold_together_are_read_apart(
    mind: VideoMind, footage: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = [Candidate(span, 0.5) for span in SPANS]
    plenty = verify(mind.cast, footage, "?", candidates, ChainSettings())
    footage.forget()
    read = Backbone.read
    refused: list[int] = []

    def reading_two_at_most(self: Backbone, passages: Any) -> Any:
        if len(passages) > 2:
            refused.append(len(passages))
            raise torch.OutOfMemoryError("too much")
        return read(self, passages)

    monkeypatch.setattr(Backbone, "read", reading_two_at_most)
    scarce = verify(mind.cast, footage, "?", candidates, ChainSettings())
    assert refused
    for one, other in zip(plenty, scarce, strict=True):
        assert one.verifier_score == pytest.approx(other.verifier_score, abs=1e-6)


def test_frames_that_do_not_fit_on_the_device_together_are_encoded_apart(
    mind: VideoMind, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Backbone.encode

    def encoding_little_at_most(self: Backbone, patches: Any, rows: int, columns: int) -> Any:
        if len(patches) > 3 * rows * columns:
            raise torch.OutOfMemoryError("too much")
        return encode(self, patches, rows, columns)

    with mind.open(video) as watched:
        plenty = watched.ask("What?", mode="ground")
    monkeypatch.setattr(Backbone, "encode", encoding_little_at_most)
    with mind.open(video) as watched:
        scarce = watched.ask("What?", mode="ground")
    assert [c.span for c in scarce.candidates] == [c.span for c in plenty.candidates]


def test_running_out_of_memory_is_a_typed_error_and_the_next_question_works(
    mind: VideoMind, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(self: Backbone, passages: Any) -> Any:
        raise torch.OutOfMemoryError("too much")

    with mind.open(video) as watched:
        with monkeypatch.context() as scarce:
            scarce.setattr(Backbone, "read", refusing)
            with pytest.raises(OutOfMemory, match="cpu has no memory left"):
                watched.ask("What?")
        assert watched.ask("What?").answer is not None
