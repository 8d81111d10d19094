from pathlib import Path

import pytest
import torch
from peft.tuners.lora import LoraLayer

from vm.errors import TrainingError
from vm.mind import VideoMind
from vm.prompts import load_role_book
from vm.training.save import begin_checkpoint
from vm.training.start import LoraSettings, default_embeddings, full_student, lora_student
from vm.training.student import TokenIds

LORA = LoraSettings(4, 8, 0.0)
ROWS = 10048  # of the miniature's base


@pytest.fixture
def bare(miniature: Path, base: Path, tmp_path: Path) -> VideoMind:
    """Without adapters."""
    begin_checkpoint(tmp_path, base, load_role_book(miniature))
    return VideoMind.load(tmp_path, base, device="cpu")


@pytest.fixture
def mind(miniature: Path) -> VideoMind:
    return VideoMind.load(miniature, device="cpu")


def tokens(mind: VideoMind, last: int = 0) -> TokenIds:
    return TokenIds(mind.cast.backbone.video_id, mind.cast.reg, mind.markers[0], last or mind.markers[1])


def trained(student: torch.nn.Module) -> set[str]:
    return {name for name, weight in student.named_parameters() if weight.requires_grad}


def test_the_published_parts_of_each_role_are_trained(mind: VideoMind) -> None:
    """LoRA on q, k, v and o of three layers; own embeddings and head, and a decoder, where published."""
    for role in ("narrator", "answerer"):
        assert default_embeddings(role) == "none"
        names = trained(lora_student(mind.cast.backbone, role, tokens(mind), LORA, "none"))
        assert len(names) == 3 * 4 * 2
        assert all(f"self_attn.{'qkvo'[i % 4]}_proj" in "".join(names) for i in range(4))
    assert (default_embeddings("grounder"), default_embeddings("verifier")) == ("all", "all")
    student = lora_student(mind.cast.backbone, "grounder", tokens(mind), LORA, "all")
    names = trained(student)
    assert {"text_model.embed_tokens.weight", "head.weight"} < names
    assert student.decoder is mind.cast.backbone.decoder
    assert {f"decoder.{name}" for name, _ in student.decoder.named_parameters()} < names


def test_a_new_adapter_changes_nothing_yet(mind: VideoMind) -> None:
    student = lora_student(mind.cast.backbone, "narrator", tokens(mind), LORA, "none").eval()
    ids = torch.tensor([[10001, 42, 7, 911]])
    with torch.no_grad():
        found = student.text_model(inputs_embeds=student.text_model.embed_tokens(ids)).last_hidden_state
        for layer in student.text_model.modules():
            if isinstance(layer, LoraLayer):
                layer.enable_adapters(False)
        bare = student.text_model(inputs_embeds=student.text_model.embed_tokens(ids)).last_hidden_state
    torch.testing.assert_close(found, bare)


@pytest.mark.parametrize("embeddings", ["new", "all"])
def test_rows_the_base_does_not_have_start_as_the_mean(mind: VideoMind, embeddings: str) -> None:
    given = mind.cast.backbone.embedding_and_head(None)[0]
    student = lora_student(mind.cast.backbone, "narrator", tokens(mind, last=ROWS + 1), LORA, embeddings)  # type: ignore[arg-type]
    for weight in (student.text_model.embed_tokens.weight, student.head.weight):
        assert len(weight) == ROWS + 2
        assert torch.equal(weight[:ROWS], given)
        for row in weight[ROWS:]:
            torch.testing.assert_close(row, given.mean(0))


def test_a_role_that_needs_tokens_without_embeddings_is_refused(mind: VideoMind) -> None:
    with pytest.raises(TrainingError, match="no embeddings for the tokens the verifier needs"):
        lora_student(mind.cast.backbone, "verifier", tokens(mind, last=ROWS + 1), LORA, "none")
    lora_student(mind.cast.backbone, "narrator", tokens(mind, last=ROWS + 1), LORA, "none")


def test_a_whole_student_shares_nothing_with_the_backbone(bare: VideoMind, mind: VideoMind) -> None:
    given = bare.cast.backbone.embedding_and_head(None)[0]
    before = given.clone()
    student = full_student(bare.cast.backbone, "planner", tokens(bare, last=ROWS + 1))
    assert len(student.head.weight) == ROWS + 2
    assert student.head.weight is student.text_model.embed_tokens.weight
    with torch.no_grad():
        for weight in student.parameters():
            weight.zero_()
    assert torch.equal(given, before)
    assert all(weight.requires_grad for weight in student.parameters())
    with pytest.raises(TrainingError, match="without adapters; planner, grounder, verifier are there"):
        full_student(mind.cast.backbone, "planner", tokens(mind))


@pytest.mark.parametrize(
    "wrong", [(0, 8, 0.0), (4, 0, 0.0), (4, float("nan"), 0.0), (4, 8, 1.0), (4, 8, -0.1)]
)
def test_lora_settings_that_make_no_sense_are_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(TrainingError):
        LoraSettings(*wrong)
