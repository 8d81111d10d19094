"""Reuse saves work and changes nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vm import ChainSettings, Result, VideoMind
from vm.errors import OutOfMemory
from vm.feature_cache import FeatureCache, hash_content
from vm.footage import Footage
from vm.model.backbone import Backbone
from vm.moments import Candidate, Span
from vm.roles.verifier import verify
from vm.video import IsolatedReader, VideoReader, open_isolated, open_video

PARITY = Path(__file__).parents[1] / "parity"
QUESTIONS = (
    "Why did the dog turn around?",
    "Locate the part where the  blue disc\n leaves",
    "Summarize the video",
)
SPANS = [Span(0, 10.0), Span(4.3, 13.3), Span(0, 2.7), Span(12, 14), Span(0, 10.0)]


@pytest.fixture(scope="module")
def video() -> Path:
    return PARITY / "videos" / "short24s.mp4"


@pytest.fixture(scope="module")
def fresh(mind: VideoMind, video: Path) -> dict[str, Result]:
    """What each question finds where the video was opened for it alone."""
    return {question: mind.ask(video, question) for question in QUESTIONS}


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
    mind: VideoMind, video: Path, fresh: dict[str, Result]
) -> None:
    with mind.open(video) as watched:
        for question in (*QUESTIONS, *QUESTIONS):
            assert_same(watched.ask(question), fresh[question])


def test_keeping_nothing_gives_the_same_results(
    mind: VideoMind, video: Path, fresh: dict[str, Result]
) -> None:
    with mind.open(video, ChainSettings(reuse_bytes=0)) as forgetful:
        for question in QUESTIONS:
            assert_same(forgetful.ask(question), fresh[question])


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


Load = Callable[..., VideoMind]


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """Empty."""
    return FeatureCache(tmp_path / "features")


@pytest.fixture
def load(tmp_path: Path, miniature: Path, cache: FeatureCache) -> Load:
    """Load the miniature with the cache, one of its tensors changed if that is asked for.

    `load(part, tensor, **how)`, where the part is a role or the base.
    """

    def load(part: str | None = None, tensor: str = "", **how: Any) -> VideoMind:
        if part is None:
            return VideoMind.load(miniature, device="cpu", feature_cache=cache, **how)
        folder = tmp_path / "changed"
        shutil.copytree(miniature, folder, dirs_exist_ok=True)
        shutil.copytree(miniature.parent / "base", folder / "base", dirs_exist_ok=True)
        (path,) = (folder / part).glob("*.safetensors")
        tensors = load_file(path)
        tensors[tensor] = -tensors[tensor]
        save_file(tensors, path, metadata={"format": "pt"})
        return VideoMind.load(folder, device="cpu", feature_cache=cache, **how)

    return load


def without_time(result: Result) -> Result:
    return replace(result, seconds={})


def looked(result: Result) -> bool:
    """Whether anything was decoded or encoded for it."""
    assert ("decode" in result.seconds) == ("vision" in result.seconds)
    return "decode" in result.seconds


def test_whoever_opens_a_cached_video_finds_bit_for_bit_what_he_would_find_without(
    mind: VideoMind, load: Load, video: Path, read_frames: Counter[Any]
) -> None:
    with mind.open(video) as watched:
        plain = [watched.ask(question) for question in QUESTIONS]
    for again in (False, True):
        read_frames.clear()
        with load().open(video) as watched:
            results = [watched.ask(question) for question in QUESTIONS]
        assert [without_time(result) for result in results] == [without_time(result) for result in plain]
        assert looked(results[0]) is not again
        assert bool(read_frames) is not again


def test_a_cached_video_needs_no_memory_to_be_known(load: Load, video: Path) -> None:
    forgetful = ChainSettings(reuse_bytes=0)
    with load().open(video, forgetful) as watched:
        first = watched.ask(QUESTIONS[0])
    with load().open(video, forgetful) as watched:
        again = watched.ask(QUESTIONS[0])
    assert (looked(first), looked(again)) == (True, False)
    assert without_time(again) == without_time(first)


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("verifier", "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"),
        ("planner", "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"),
        ("base", "model.layers.0.mlp.up_proj.weight"),
    ],
)
def test_a_new_adapter_or_language_model_sees_what_the_old_one_saw(
    load: Load, video: Path, part: str, tensor: str
) -> None:
    """Where it looks at other frames, only these are new to it."""
    old, new = load(), load(part, tensor)
    assert old.fingerprint != new.fingerprint
    settings = old.cast.settings("grounder")
    with old.open(video) as watched:
        seen = watched._footage.features([watched._footage.view(settings)])[0]
    with new.open(video) as watched:
        assert watched._footage.features([watched._footage.view(settings)])[0].equal(seen)
        assert "vision" not in watched._footage.stopwatch.lap()
        moments = watched.ask(QUESTIONS[0], mode="ground").moments
    with load(part, tensor).open(video) as watched:
        again = watched.ask(QUESTIONS[0], mode="ground")
    assert not looked(again)
    assert again.moments == moments


@pytest.mark.parametrize(
    ("change", "how"),
    [(("base", "visual.merger.mlp.2.weight"), {}), ((), {"dtype": "bfloat16"})],
    ids=["weights", "dtype"],
)
def test_another_tower_looks_for_itself(
    load: Load, video: Path, change: tuple[str, ...], how: dict[str, str]
) -> None:
    load().ask(video, QUESTIONS[0], mode="ground")
    other = load(*change, **how)
    alone = replace_cache(other, None).ask(video, QUESTIONS[0], mode="ground")
    first, again = (other.ask(video, QUESTIONS[0], mode="ground") for _ in range(2))
    assert (looked(first), looked(again)) == (True, False)
    assert without_time(first) == without_time(again) == without_time(alone)


def replace_cache(mind: VideoMind, cache: FeatureCache | None) -> VideoMind:
    return VideoMind(mind.cast, mind.fingerprint, mind.markers, cache)


def test_a_changed_video_is_looked_at_anew(mind: VideoMind, load: Load, video: Path, tmp_path: Path) -> None:
    path, found = tmp_path / "video.mp4", []
    for content in (video, PARITY / "videos" / "portrait9s.mp4"):
        shutil.copyfile(content, path)
        result = load().ask(path, QUESTIONS[0])
        assert looked(result)
        assert without_time(result) == without_time(mind.ask(path, QUESTIONS[0]))
        found.append(result.candidates)
    assert found[0] != found[1]


def test_what_is_lost_or_damaged_is_made_anew_alone_and_nothing_else_changes(
    load: Load, video: Path, cache: FeatureCache, read_frames: Counter[Any]
) -> None:
    whole = load().ask(video, QUESTIONS[0])
    files = sorted(cache.folder.rglob("*.safetensors"))
    decoded = sum(read_frames.values())
    assert len(files) > 1
    for file in files:
        for spoil in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!")):
            spoil(file)
            read_frames.clear()
            result = load().ask(video, QUESTIONS[0])
            assert without_time(result) == without_time(whole)
            assert 0 < sum(read_frames.values()) < decoded
            assert sorted(cache.folder.rglob("*.safetensors")) == files


def test_what_replaces_damaged_frames_is_not_kept_and_is_told_each_time(
    mind: VideoMind, load: Load, video: Path, tmp_path: Path, cache: FeatureCache
) -> None:
    data = bytearray(video.read_bytes())
    start, end = len(data) // 2, len(data) * 6 // 10
    data[start:end] = bytes(end - start)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    plain = mind.ask(path, QUESTIONS[0])
    assert "damaged or missing frames" in plain.warnings[0]
    for _ in range(2):
        assert without_time(load().ask(path, QUESTIONS[0])) == without_time(plain)
    assert not cache.folder.exists()


def test_an_open_video_is_known_by_the_hash_that_is_given(
    load: Load, video: Path, cache: FeatureCache
) -> None:
    content_hash = hash_content(video, began=float("inf"))
    load().ask(video, "What?", mode="ground")
    for given, is_known in ((None, False), (content_hash, True)):
        with load().open(open_video(video), content_hash=given) as watched:
            assert looked(watched.ask("What?", mode="ground")) is not is_known
    assert [folder.name for folder in cache.folder.iterdir()] == [content_hash]
    with pytest.raises(ValueError, match="sha256"):
        load().open(video, content_hash="../features")


def test_only_what_is_not_cached_is_decoded_ahead(
    load: Load, monkeypatch: pytest.MonkeyPatch, video: Path
) -> None:
    prefetched: list[set[int]] = []
    prefetch = IsolatedReader.prefetch

    def counting(self: IsolatedReader, indices: Any, size: tuple[int, int]) -> None:
        prefetched.append(set(indices))
        prefetch(self, indices, size)

    monkeypatch.setattr(IsolatedReader, "prefetch", counting)
    content_hash, mind = hash_content(video, began=float("inf")), load()
    with open_isolated(video) as reader:
        mind.prefetch(reader)
        mind.prefetch(reader, content_hash)
        with mind.open(video) as watched:
            whole = watched._footage.view(mind.cast.settings("grounder"))
            begun = replace(whole, indices=whole.indices[:8])
            watched._footage.features([begun])
        mind.prefetch(reader, content_hash)
        with mind.open(video) as watched:
            watched._footage.features([whole])
        mind.prefetch(reader, content_hash)
    everything = set(whole.indices)
    assert prefetched == [everything, everything, everything - set(begun.indices)]
