"""The numbers recorded from the published code decide whether the model is right."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vm import Result, VideoMind
from vm.model.backbone import Backbone, Passage
from vm.model.key_values import KeyValues
from vm.model.positions import rotary_positions

HERE = Path(__file__).parent
EXPECTED = json.loads((HERE / "expected.json").read_text())
CASES = {f"{case['video']}: {case['question'][:24]}": case for case in EXPECTED["cases"]}
CLOSE_SCORES = 1e-3


@pytest.fixture(scope="module")
def mind() -> VideoMind:
    return VideoMind.load(HERE / "checkpoint", device="cpu", dtype="float32")


@dataclass
class Call:
    """One sequence the model read: under which role, the prompt, and the last state after it."""

    role: str | None
    prompt: list[int] = field(default_factory=list)
    last_state: torch.Tensor | None = None


@dataclass
class Recorded:
    case: dict[str, Any]
    result: Result
    calls: list[Call]
    logits: list[torch.Tensor]
    generated: dict[str, list[int]]
    grids: set[tuple[int, int, int]]


@pytest.fixture(scope="module", params=CASES)
def recorded(request: pytest.FixtureRequest, mind: VideoMind) -> Recorded:
    """The whole chain from the video file, with every prompt the model read."""
    case = CASES[request.param]
    calls: dict[int, Call] = {}
    pasts: list[KeyValues] = []  # kept, so that no id is used twice
    generated: dict[str, list[int]] = {}
    grids: set[tuple[int, int, int]] = set()
    with pytest.MonkeyPatch.context() as patch:
        read, generate = Backbone.read, Backbone.generate

        def recording_read(self: Backbone, passages: list[Passage]) -> list[torch.Tensor]:
            states = read(self, passages)
            for passage, state in zip(passages, states, strict=True):
                call = calls.setdefault(id(passage.past), Call(self._role))
                if id(passage.past) not in map(id, pasts) or len(passage.ids) > 1:
                    call.prompt += passage.ids.tolist()
                    call.last_state = state[-1]
                pasts.append(passage.past)
            return states

        def recording_generate(self: Backbone, *given: Any) -> Any:
            written = generate(self, *given)
            generated[self._role or "answerer"] = written.ids
            return written

        def recording_positions(ids: Any, token_grid: tuple[int, int, int], *given: Any) -> torch.Tensor:
            frames, rows, columns = token_grid
            grids.add((frames, rows * 2, columns * 2))
            return rotary_positions(ids, token_grid, *given)

        patch.setattr("vm.footage.rotary_positions", recording_positions)
        patch.setattr(Backbone, "read", recording_read)
        patch.setattr(Backbone, "generate", recording_generate)
        with mind.open(HERE / "videos" / case["video"]) as watched:
            result = watched.ask(case["question"], min_answer_seconds=EXPECTED["answer_min_length_s"])
    logits = []
    for call in calls.values():
        with mind.cast.backbone.acting_as(call.role):
            logits.append(mind.cast.backbone.next_token_logits(call.last_state[None])[0])
    return Recorded(case, result, list(calls.values()), logits, generated, grids)


def test_a_recorded_prefill_gives_the_recorded_logits_and_reply(mind: VideoMind) -> None:
    recorded = load_file(HERE / "planner_call_tiny3s.safetensors")
    frames, rows, columns = recorded["video_grid_thw"][0].tolist()
    backbone, ids = mind.cast.backbone, recorded["input_ids"][0]
    features = backbone.encode(recorded["pixel_values"].view(frames, rows * columns, -1), rows, columns)
    start = mind.cast.chat.token_id("<|vision_start|>")
    positions = rotary_positions(ids.tolist(), (frames, rows // 2, columns // 2), start, backbone.video_id)
    past = KeyValues(len(ids) + 256)
    with backbone.acting_as("planner"):
        state = backbone.read([Passage(past, ids, positions, features.flatten(0, 1))])[0][-1]
        torch.testing.assert_close(
            backbone.next_token_logits(state[None]), recorded["logits"], atol=1e-4, rtol=0
        )
        written = backbone.generate(past, state, int(positions.max()) + 1, 256)
    assert written.ids == EXPECTED["cases"][0]["calls"][0]["generated"]


def _called(recorded: Recorded) -> list[dict[str, Any]]:
    """The published calls, those on equal prompts (candidates of equal segment) once, and without
    an answer the plan did not ask for."""
    published = {(call["adapter"], tuple(call["input_ids"])): call for call in recorded.case["calls"]}
    return list(published.values())


def test_prompts_are_token_for_token_the_published_ones(recorded: Recorded) -> None:
    ours = {(call.role, tuple(call.prompt)) for call in recorded.calls}
    published = {(call["adapter"], tuple(call["input_ids"])) for call in _called(recorded)}
    if recorded.case["response"] is None:  # the plan may ask for an answer that was not expected there
        ours = {call for call in ours if call[0] is not None}
    assert ours == published
    assert recorded.grids >= {tuple(call["grid"]) for call in _called(recorded)}


def test_last_logits_are_the_published_ones(recorded: Recorded) -> None:
    ours = {tuple(call.prompt): scores for call, scores in zip(recorded.calls, recorded.logits, strict=True)}
    for call in _called(recorded):
        scores = ours[tuple(call["input_ids"])][call["logits_top_ids"]]
        torch.testing.assert_close(scores, torch.tensor(call["logits_top"]), atol=2e-3, rtol=0)


def test_greedy_replies_are_token_for_token_the_published_ones(recorded: Recorded) -> None:
    for call in _called(recorded):
        if call["adapter"] != "verifier":
            assert recorded.generated[call["adapter"] or "answerer"] == call["generated"]


def test_plan_and_query_are_the_published_ones(recorded: Recorded) -> None:
    case, result = recorded.case, recorded.result
    assert result.plan.text == case["planner_response"]
    assert ("grounder" in case["roles"]) == (result.query is not None)
    if case["grounding_query"] is not None:
        assert result.query == case["grounding_query"]
    assert result.video.duration == pytest.approx(case["duration"], abs=1e-9)


def test_candidates_are_the_published_ones(recorded: Recorded) -> None:
    case, result = recorded.case, recorded.result
    candidates = case.get("candidates", [])
    assert len(result.candidates) == len(candidates)
    for ours, (start, end, confidence) in zip(result.candidates, candidates, strict=True):
        assert ours.span.start == pytest.approx(start, abs=0.003 * case["duration"])
        assert ours.span.end == pytest.approx(end, abs=0.003 * case["duration"])
        assert ours.confidence == pytest.approx(confidence, abs=2e-3)
        assert ours.fallback == (not case["grounder_success"])


def test_verifier_scores_and_order_are_the_published_ones(recorded: Recorded) -> None:
    case, result = recorded.case, recorded.result
    scores = case.get("verifier_scores", [])
    assert [c.verifier_score for c in result.candidates] == pytest.approx(scores, abs=2e-3)
    order = [result.candidates.index(moment.candidate) for moment in result.moments]
    for ours, published in zip(order, case.get("verifier_order", []), strict=True):
        assert ours == published or abs(scores[ours] - scores[published]) < CLOSE_SCORES


def test_answer_is_the_published_one(recorded: Recorded) -> None:
    if recorded.case["response"] is None:
        assert not recorded.case["answer_expected"]
    else:
        assert recorded.result.answer is not None
        assert recorded.result.answer.text == recorded.case["response"]
