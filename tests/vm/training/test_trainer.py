"""The trainer, fed from memory: what it moves, what it leaves, and that it goes on as if never stopped."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import forked
from vm.errors import TrainingError
from vm.mind import VideoMind
from vm.training.lessons import Example, Lesson
from vm.training.start import LoraSettings, lora_student
from vm.training.student import Student, TokenIds
from vm.training.trainer import StudentTrainer, TrainSettings, newest_checkpoint
from vm.training.watching import JsonLines

SETTINGS = TrainSettings(max_steps=8, accumulation=2, learning_rate=1e-2, log_every=1, save_every=3)
STOPPED = """
import os, signal, sys, torch
from transformers import TrainerCallback

class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

sys.path[:0] = map(str, (test.parent, test.parents[3]))
import test_trainer as t
torch.set_num_threads(1)
t.teach(t.VideoMind.load(miniature, device="cpu"), folder, callbacks=[Killed()])
"""


@pytest.fixture
def mind(miniature: Path) -> VideoMind:
    """One whose modules become a student's."""
    return VideoMind.load(miniature, device="cpu")


def lessons(mind: VideoMind, count: int = 5) -> list[Lesson]:
    """As many examples as its number, from 1, in each."""
    prompts = [mind.cast.prompt("grounder", f"number {i}") for i in range(count)]
    reply = (*mind.cast.chat.encode("It happens in <|reg|>."), min(mind.cast.backbone.eos_ids))
    generator = torch.Generator().manual_seed(0)
    return [
        Lesson(
            torch.randn(3 + i, 4, 32, generator=generator),
            (3 + i, 2, 2),
            prompts[0].before,
            tuple(Example(p.after, reply, ((0.1 * i, 0.1 * i + 0.5),)) for p in prompts[: i + 1]),
        )
        for i in range(count)
    ]


def student(mind: VideoMind, dropout: float = 0.1) -> Student:
    torch.manual_seed(0)
    tokens = TokenIds(mind.cast.backbone.video_id, mind.cast.reg, *mind.markers)
    return lora_student(mind.cast.backbone, "grounder", tokens, LoraSettings(4, 8, dropout), "all")


def teach(
    mind: VideoMind, folder: Path, settings: TrainSettings = SETTINGS, callbacks: Any = ()
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The metrics, and what was trained."""
    folder.mkdir(exist_ok=True)
    taught = student(mind)
    watching = [JsonLines(folder / "metrics.jsonl"), *callbacks]
    StudentTrainer(taught, lessons(mind), settings, folder, "cpu", watching).teach()  # type: ignore[arg-type]
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    weights = {name: w.detach().clone() for name, w in taught.named_parameters() if w.requires_grad}
    return metrics, weights


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    mind: VideoMind, miniature: Path, tmp_path: Path
) -> None:
    """The data's order, dropout and the optimiser's memory are those of a run that was left alone."""
    given = {"test": Path(__file__), "miniature": miniature, "folder": tmp_path / "stopped"}
    process = forked.process(STOPPED, given)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert newest_checkpoint(tmp_path / "stopped") == tmp_path / "stopped" / "checkpoint-3"
    (tmp_path / "stopped" / ".partial" / "checkpoint-6").mkdir(parents=True)  # killed while it was saving
    stopped, stopped_weights = teach(VideoMind.load(miniature, device="cpu"), tmp_path / "stopped")
    whole, weights = teach(mind, tmp_path / "whole")
    assert [line["step"] for line in whole] == list(range(1, 9))
    assert stopped == whole
    assert stopped_weights.keys() == weights.keys()
    for name, weight in weights.items():
        assert torch.equal(stopped_weights[name], weight), name


def test_a_finished_run_is_not_trained_further(mind: VideoMind, miniature: Path, tmp_path: Path) -> None:
    metrics, weights = teach(mind, tmp_path)
    again, same = teach(VideoMind.load(miniature, device="cpu"), tmp_path)
    assert again == metrics
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())


def test_only_the_newest_checkpoints_are_kept(mind: VideoMind, tmp_path: Path) -> None:
    teach(mind, tmp_path, replace(SETTINGS, save_every=2, keep=2))
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]
    assert not list(tmp_path.glob(".partial/*"))


def test_what_is_frozen_stays_as_it_was_bit_for_bit(mind: VideoMind, tmp_path: Path) -> None:
    taught = student(mind)
    model = mind.cast.backbone.model
    before = {n: w.detach().clone() for part in (taught, model) for n, w in part.named_parameters()}
    bare = mind.cast.backbone.embedding_and_head(None)[0].clone()
    StudentTrainer(taught, lessons(mind), SETTINGS, tmp_path, "cpu").teach()  # type: ignore[arg-type]
    trained = {name for name, weight in taught.named_parameters() if weight.requires_grad}
    for name, weight in taught.named_parameters():
        assert torch.equal(weight, before[name]) == (name not in trained), name
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            assert torch.equal(weight, before[name]), name
    assert torch.equal(mind.cast.backbone.embedding_and_head(None)[0], bare)
    kinds = ("lora_A.grounder", "lora_B.grounder", "embed_tokens", "head.", "decoder.")
    assert all(any(kind in name for kind in kinds) for name in trained)
    assert all(any(kind in name for name in trained) for kind in kinds)


def test_every_example_counts_the_same_however_they_are_divided(miniature: Path, tmp_path: Path) -> None:
    """One batch of four lessons, or four batches of one: examples are counted, not lessons."""
    found = []
    for batch, accumulation in ((4, 1), (1, 4)):
        mind = VideoMind.load(miniature, device="cpu")
        taught = student(mind, dropout=0.0).requires_grad_(False)
        taught.head.requires_grad_(True)
        given = [
            Lesson(
                lesson.features,
                lesson.token_grid,
                lesson.before,
                tuple(replace(example, spans=()) for example in lesson.examples),
            )
            for lesson in lessons(mind, 4)
        ]
        settings = TrainSettings(max_steps=3, batch_size=batch, accumulation=accumulation, log_every=1)
        folder = tmp_path / f"{batch}"
        folder.mkdir()
        watching = [JsonLines(folder / "metrics.jsonl")]
        StudentTrainer(taught, given, settings, folder, "cpu", watching).teach()  # type: ignore[arg-type]
        first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
        found.append((first["loss"], first["language"], first["grad_norm"]))
        with torch.no_grad():
            expected = student(mind, 0.0)(given)
        assert first["loss"] == pytest.approx(float(expected.total) / 10, rel=1e-4)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_new_parts_learn_at_their_own_rate(mind: VideoMind, tmp_path: Path) -> None:
    settings = replace(SETTINGS, decoder_learning_rate=1e-4, weight_decay=0.1, warmup=0.0, max_steps=1)
    trainer = StudentTrainer(student(mind), lessons(mind), settings, tmp_path, "cpu")  # type: ignore[arg-type]
    names = {id(weight): name for name, weight in trainer.model.named_parameters()}
    for group in trainer.create_optimizer().param_groups:
        for weight in group["params"]:
            name = names[id(weight)]
            assert group["lr"] == (1e-2 if "lora" in name else 1e-4)
            assert (group["weight_decay"] > 0) == (
                weight.ndim > 1 and not ("embed" in name or "head." in name[:5])
            )


def test_a_loss_that_is_no_number_ends_the_run(mind: VideoMind, tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e30, max_gradient_norm=1e30, warmup=0.0)
    with pytest.raises(TrainingError, match="lower learning rate"):
        teach(mind, tmp_path, settings)


def test_a_checkpoint_of_another_student_is_refused(mind: VideoMind, miniature: Path, tmp_path: Path) -> None:
    teach(mind, tmp_path, replace(SETTINGS, max_steps=3))
    other = VideoMind.load(miniature, device="cpu")
    tokens = TokenIds(other.cast.backbone.video_id, other.cast.reg, *other.markers)
    planner = lora_student(other.cast.backbone, "planner", tokens, LoraSettings(4, 8, 0.0), "none")
    with pytest.raises(TrainingError, match="other settings"):
        StudentTrainer(planner, lessons(other), SETTINGS, tmp_path, "cpu").teach()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"max_steps": 0}, {"batch_size": 0}, {"learning_rate": 0}, {"warmup": 1}, {"keep": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        TrainSettings(**wrong)
