"""Each role learns a few rows by heart, and says so when it is asked as anybody would ask it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vm.config import ChainSettings
from vm.errors import InvalidRoles, OutOfMemory, TrainingDataError, TrainingError
from vm.mind import VideoMind
from vm.moments import Span
from vm.training.recipe import Recipe, train_role
from vm.training.rows import usable_rows
from vm.training.start import LoraSettings
from vm.training.student import Student
from vm.training.verifier_data import make_verifier_data

MakeRecipe = Callable[..., Recipe]


def taught(recipe: Recipe) -> VideoMind:
    told: list[str] = []
    assert train_role(recipe, told.append)
    assert told == []
    base = None if recipe.full else recipe.base
    return VideoMind.load(recipe.out, base, device="cpu")


def test_a_planner_learns_its_plans(recipe: MakeRecipe, short_video: Path) -> None:
    plans = {"What is it?": "answer", "When does it run?": "ground", "Who goes first?": "ground-answer"}
    rows = [{"video": short_video, "question": q, "plan": p, "query": "a man goes"} for q, p in plans.items()]
    mind = taught(recipe("planner", rows, embeddings="all", max_steps=40))
    steps = {"ground": ("grounder", "verifier"), "answer": ("answerer",)}
    steps["ground-answer"] = (*steps["ground"], *steps["answer"])
    with mind.open(short_video) as watched:
        for question, plan in plans.items():
            written = json.loads(watched.ask_role("planner", question))
            assert tuple(step["type"] for step in written) == steps[plan]
            assert [step["value"] for step in written if "value" in step] == ["a man goes"] * (
                "ground" in plan
            )


def test_grounder_and_verifier_learn_their_moments(
    recipe: MakeRecipe, portrait_video: Path, miniature: Path
) -> None:
    """The verifier from what the grounder proposes, as `make-verifier-data` labels it."""
    truth = {"it runs": Span(2, 4.5), "a dog sleeps": Span(6, 9)}
    rows = [{"video": portrait_video, "query": q, "spans": [[s.start, s.end]]} for q, s in truth.items()]
    teaching = recipe("grounder", rows, learning_rate=3e-3, max_steps=50)
    mind = taught(teaching)
    for query, span in truth.items():
        best = mind.ask(portrait_video, query, mode="ground").best
        assert best is not None
        assert best.span.iou(span) > 0.6

    judged = teaching.out.parent / "judged.jsonl"
    given = usable_rows(teaching.data, "grounder", "fail", pytest.fail)[:1]
    made = make_verifier_data(mind, given, judged, ChainSettings(), pytest.fail, lambda stage, done: None)
    assert min(made) >= 1
    labels = {
        row["candidate"][0]: row["label"] == "Yes" for row in map(json.loads, judged.read_text().splitlines())
    }
    lora = LoraSettings(32, 64, 0.0)
    learning = recipe("verifier", [], lora=lora, learning_rate=5e-3, batch_size=5, max_steps=60)
    mind = taught(replace(learning, data=judged, roles=None))
    result = mind.ask(portrait_video, "it runs", mode="ground")
    scored = {round(c.span.start, 3): (c.p_yes or 0) > (c.p_no or 0) for c in result.candidates}
    assert scored == labels
    assert result.best is not None
    assert result.best.span.iou(truth["it runs"]) >= 0.5


def test_an_answerer_learns_options_and_words(recipe: MakeRecipe, short_video: Path) -> None:
    options = ["nobody", "a guard", "a dog"]
    rows = [
        {"video": short_video, "question": "Who?", "answer": "a guard", "options": options},
        {"video": short_video, "question": "Which?", "answer": "a dog", "options": options},
        {"video": short_video, "question": "Where is it?", "answer": "in the yard", "segment": [0, 3]},
    ]
    mind = taught(recipe("answerer", rows, embeddings="all", max_steps=60))
    with mind.open(short_video) as watched:
        for row in rows[:2]:
            answer = watched.ask(row["question"], mode="answer", options=options).answer
            assert answer is not None
            assert answer.text == row["answer"]
        answer = watched.ask("Where is it?", mode="answer").answer
        assert answer is not None
        assert answer.text == "in the yard"


def test_a_role_of_ones_own_joins_a_checkpoint(recipe: MakeRecipe, short_video: Path) -> None:
    plan = [{"video": short_video, "question": "What?", "plan": "answer"}]
    planner = recipe("planner", plan, max_steps=2)
    train_role(planner, pytest.fail)
    before = {path: path.read_bytes() for path in (planner.out / "planner").iterdir()}
    tales = {"Tell me.": "Once upon a time", "What was it like?": "It was a dark night"}
    rows = [{"video": short_video, "question": asked, "answer": tale} for asked, tale in tales.items()]
    mind = taught(recipe("narrator", rows, roles=None, prompt="Tell: '{}'", embeddings="all", max_steps=40))
    assert mind.cast.backbone.roles == ("planner", "narrator")
    assert {path: path.read_bytes() for path in before} == before
    with mind.open(short_video) as watched:
        for asked, tale in tales.items():
            assert watched.ask_role("narrator", asked) == tale


def test_a_whole_model_brings_its_base(recipe: MakeRecipe, portrait_video: Path) -> None:
    rows = [{"video": portrait_video, "query": "it runs", "spans": [[2, 4.5]]}]
    mind = taught(recipe("grounder", rows, full=True, learning_rate=2e-3, max_steps=40))
    best = mind.ask(portrait_video, "it runs", mode="ground").best
    assert best is not None
    assert best.span.iou(Span(2, 4.5)) > 0.6


def test_an_adapter_is_gone_on_with(recipe: MakeRecipe, miniature: Path, portrait_video: Path) -> None:
    """At a rate that moves nothing, what comes out says what went in said."""
    rows = [{"video": portrait_video, "query": "it runs", "spans": [[2, 4.5]]}]
    mind = taught(
        recipe("grounder", rows, start=miniature, learning_rate=1e-12, max_steps=1, storage="float32")
    )
    found = mind.ask(portrait_video, "the man turns around", mode="ground").candidates
    published = VideoMind.load(miniature, device="cpu")
    with published.open(portrait_video) as watched:
        expected = watched.ask("the man turns around", mode="ground", verify=False).candidates
    assert [c.span for c in found] == [c.span for c in expected]
    assert [c.confidence for c in found] == pytest.approx([c.confidence for c in expected], abs=1e-5)


def test_the_added_tokens_alone_can_be_trained(recipe: MakeRecipe, short_video: Path, base: Path) -> None:
    rows = [{"video": short_video, "query": "it runs", "spans": [[1, 2]]}]
    teaching = recipe("grounder", rows, embeddings="new", max_steps=2, storage="float32")
    mind = taught(teaching)
    own = load_file(teaching.out / "grounder" / "adapter_model.safetensors")
    given = load_file(base / "model.safetensors")["model.embed_tokens.weight"].float()
    ids = [mind.cast.reg, *mind.markers]
    for name in ("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"):
        moved = (own[name] != given).any(1).nonzero()[:, 0].tolist()
        assert mind.cast.reg in moved
        assert set(moved) <= set(ids)


def test_a_folder_is_for_one_run(recipe: MakeRecipe, short_video: Path) -> None:
    rows = [{"video": short_video, "question": "What?", "plan": "answer", "answer": "Nothing"}]
    first = recipe("planner", rows, max_steps=1)
    train_role(first, pytest.fail)
    train_role(replace(first, role="answerer", run=first.run / "other"), pytest.fail)
    train_role(first, pytest.fail)  # what else is in the checkpoint is no matter
    with pytest.raises(TrainingError, match=r"other lora_rank; give another --run"):
        train_role(replace(first, lora=LoraSettings(4, 16, 0.0)), pytest.fail)
    with pytest.raises(TrainingError, match=r"other data"):
        train_role(recipe("planner", rows * 2, max_steps=1), pytest.fail)


def test_what_the_machine_cannot_do_is_told_in_words(
    recipe: MakeRecipe, short_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"video": short_video, "question": "What?", "plan": "answer"}]
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        train_role(recipe("planner", rows, run=tmp_path / "file" / "run"), pytest.fail)
    with pytest.raises(TrainingError, match="CUDA_VISIBLE_DEVICES"):
        recipe("planner", rows, device="cuda:1")

    def refusing(self: Student, lesson: object) -> None:
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(Student, "read", refusing)
    with pytest.raises(OutOfMemory, match="--gradient-checkpointing"):
        train_role(recipe("planner", rows), pytest.fail)


def test_a_role_needs_a_prompt(recipe: MakeRecipe, short_video: Path) -> None:
    rows = [{"video": short_video, "question": "What?", "answer": "Nothing", "plan": "answer"}]
    for role in ("planner", "narrator"):
        with pytest.raises(InvalidRoles, match=f"the {role} has no prompt"):
            train_role(recipe(role, rows, roles=None), pytest.fail)
    with pytest.raises(InvalidRoles, match="exactly one placeholder"):
        train_role(recipe("narrator", rows, roles=None, prompt="Tell me"), pytest.fail)


@pytest.mark.parametrize("role", ["", "Planner", "base", "../x", "a" * 40])
def test_a_role_must_have_a_name_a_folder_can_have(recipe: MakeRecipe, role: str) -> None:
    with pytest.raises(TrainingError, match="cannot name a role"):
        recipe(role, [], run=Path("run"))


def test_a_whole_model_does_not_take_the_base_from_other_roles(recipe: MakeRecipe, short_video: Path) -> None:
    rows = [{"video": short_video, "question": "What?", "answer": "Nothing", "plan": "answer"}]
    train_role(recipe("planner", rows, max_steps=1), pytest.fail)
    with pytest.raises(TrainingError, match=r"has other roles \(planner\)"):
        train_role(recipe("answerer", rows, full=True), pytest.fail)


def test_bad_rows_are_told_with_their_lines_and_skipped_or_fatal(
    recipe: MakeRecipe, short_video: Path
) -> None:
    rows = [
        {"video": short_video, "question": "What?", "plan": "answer"},
        {"video": short_video, "question": "What?", "plan": "dance"},
    ]
    with pytest.raises(TrainingDataError, match=r"line 2: plan must be .* 'dance'"):
        train_role(recipe("planner", rows, max_steps=1), pytest.fail)
    told: list[str] = []
    assert train_role(recipe("planner", rows, max_steps=1, bad_rows="skip"), told.append)
    assert len(told) == 1
    assert "skipped line 2: plan" in told[0]


def test_a_video_that_cannot_be_read_does_not_end_the_run(
    recipe: MakeRecipe, short_video: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(short_video.read_bytes()[:2000])
    rows = [{"video": v, "question": "What?", "plan": "answer"} for v in (broken, short_video, broken)]
    told: list[str] = []
    assert train_role(recipe("planner", rows, max_steps=3, pack_tokens=1, batch_size=1), told.append)
    assert len(told) == 1
    assert str(broken) in told[0]
    with pytest.raises(TrainingDataError, match="none of the videos"):
        train_role(recipe("planner", rows[:1], run=tmp_path / "other", max_steps=1), told.append)
