import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vm.errors import CheckpointError, TrainingError
from vm.mind import VideoMind
from vm.prompts import ROLES_FILE, load_role_book, parse_role_book
from vm.training.save import begin_checkpoint, save_base, save_role
from vm.training.start import LoraSettings, full_student, lora_student
from vm.training.student import Student, TokenIds

PROMPT = {"narrator": {"prompt": "Tell: '{}'"}}


@pytest.fixture
def mind(miniature: Path) -> VideoMind:
    return VideoMind.load(miniature, device="cpu")


def tokens(mind: VideoMind) -> TokenIds:
    return TokenIds(mind.cast.backbone.video_id, mind.cast.reg, *mind.markers)


def student(mind: VideoMind, role: str) -> Student:
    embeddings = "all" if role != "planner" else "none"
    return lora_student(mind.cast.backbone, role, tokens(mind), LoraSettings(), embeddings)


def save(mind: VideoMind, role: str, begun: Path, out: Path) -> None:
    settings = parse_role_book({"roles": PROMPT | {role: {"prompt": "{}"}}}).settings(role)
    save_role(student(mind, role), role, settings, begun, out, "float16")


@pytest.mark.parametrize("role", ["planner", "grounder", "verifier"])
def test_what_was_read_is_written_back_as_published(
    mind: VideoMind, miniature: Path, tmp_path: Path, role: str
) -> None:
    """Same names, same shapes, same numbers, same settings."""
    save(mind, role, miniature, tmp_path)
    files = [
        f"{role}/adapter_model.safetensors",
        *(["pytorch_model.safetensors"] if role == "grounder" else []),
    ]
    for name in files:
        expected, found = load_file(miniature / name), load_file(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    found, expected = (
        json.loads((folder / role / "adapter_config.json").read_text()) for folder in (tmp_path, miniature)
    )
    found["target_modules"].sort()
    expected["target_modules"].sort()
    assert {key: expected[key] for key in found} == found


def test_a_role_is_replaced_and_the_others_stay(mind: VideoMind, miniature: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(miniature, out)
    (out / "verifier" / "left_over.txt").touch()
    before = {p: p.read_bytes() for name in ("planner", "grounder") for p in (out / name).iterdir()}
    save(mind, "verifier", miniature, out)
    assert {p: p.read_bytes() for p in before} == before
    assert sorted(p.name for p in (out / "verifier").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in miniature.iterdir())
    book, given = load_role_book(out), load_role_book(miniature)
    assert book.settings("verifier").prompt == "{}"
    assert book.settings("planner") == given.settings("planner")


def test_a_student_of_several_roles_is_written_as_each(
    mind: VideoMind, miniature: Path, tmp_path: Path
) -> None:
    book, both = load_role_book(miniature), student(mind, "grounder")
    for role in ("grounder", "verifier"):
        save_role(both, role, book.settings(role), miniature, tmp_path)
    own, other = (load_file(tmp_path / r / "adapter_model.safetensors") for r in ("grounder", "verifier"))
    assert own.keys() == other.keys()
    assert all(torch.equal(other[name], tensor) for name, tensor in own.items())


def test_a_new_checkpoint_knows_the_tokens_its_base_did_not(
    base: Path, miniature: Path, tmp_path: Path
) -> None:
    begin_checkpoint(tmp_path, base, load_role_book(miniature))
    begun = VideoMind.load(tmp_path, base, device="cpu")
    published = VideoMind.load(miniature, device="cpu")
    assert (begun.cast.reg, begun.markers) == (published.cast.reg, published.markers)
    text = "Is <|reg|> between <|seg_start|> and <|seg_end|>?"
    assert begun.cast.chat.encode(text) == published.cast.chat.encode(text)
    assert begun.cast.backbone.roles == ()
    assert load_role_book(tmp_path) == load_role_book(miniature)


def test_a_tokenizer_that_cannot_be_read_is_told(base: Path, tmp_path: Path) -> None:
    broken = tmp_path / "base"
    shutil.copytree(base, broken)
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        begin_checkpoint(tmp_path / "out", broken, parse_role_book({}))


def test_weights_that_do_not_fit_are_not_written(mind: VideoMind, miniature: Path, tmp_path: Path) -> None:
    taught = student(mind, "planner")
    with torch.no_grad():
        next(w for w in taught.parameters() if w.requires_grad).fill_(1e5)
    settings = load_role_book(miniature).settings("planner")
    with pytest.raises(TrainingError, match="store the weights as float32"):
        save_role(taught, "planner", settings, miniature, tmp_path, "float16")
    assert list(tmp_path.iterdir()) == []
    save_role(taught, "planner", settings, miniature, tmp_path, "float32")
    assert (tmp_path / ROLES_FILE).is_file()


def test_a_place_that_cannot_be_written_is_told(mind: VideoMind, miniature: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(mind, "planner", miniature, tmp_path / "file")


def test_a_whole_model_is_a_base_of_its_own(base: Path, miniature: Path, tmp_path: Path) -> None:
    """Untouched, it is the base it came from, embedding and head in one."""
    begin_checkpoint(tmp_path / "begun", base, load_role_book(miniature))
    mind = VideoMind.load(tmp_path / "begun", base, device="cpu")
    whole = full_student(mind.cast.backbone, "planner", tokens(mind))
    assert whole.head.weight is whole.text_model.embed_tokens.weight
    save_base(whole, mind.cast.backbone.model.model.visual, base, miniature, tmp_path, "float16")
    found, expected = (load_file(folder / "model.safetensors") for folder in (tmp_path / "base", base))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    settings = load_role_book(miniature).settings("planner")
    save_role(whole, "planner", settings, miniature, tmp_path, "float16")
    loaded = VideoMind.load(tmp_path, device="cpu").cast.backbone
    assert loaded.roles == ("planner",)
    for given, own in zip(
        loaded.embedding_and_head("planner"), mind.cast.backbone.embedding_and_head(None), strict=True
    ):
        assert torch.equal(given, own)
