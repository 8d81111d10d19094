"""The student reads a lesson as the chain will read it: the same states, for every example at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from vm.footage import Footage, View
from vm.mind import VideoMind
from vm.model.backbone import Passage
from vm.model.positions import text_positions
from vm.training.lessons import Example, Lesson
from vm.training.student import Reading, Student, TokenIds

QUESTIONS = ("When does the man turn around?", "What?", "Why did the dog appear behind the door, and when?")
REPLY = "The relevant moment happens in <|reg|>.<|im_end|>"
MARKED = [None, (1, 3), (0, 2), (2, 2), (0, 6)]


@pytest.fixture(scope="module")
def own_mind(miniature: Path) -> VideoMind:
    """One whose modules may be changed."""
    return VideoMind.load(miniature, device="cpu")


@pytest.fixture(scope="module")
def footage(own_mind: VideoMind, miniature: Path) -> Iterator[Footage]:
    with own_mind.open(miniature.parent / "videos" / "portrait9s.mp4") as watched:
        yield watched._footage


def student(mind: VideoMind, role: str) -> Student:
    backbone: Any = mind.cast.backbone
    text_model = backbone._model.model.language_model
    for module in text_model.modules():
        if isinstance(module, LoraLayer):
            module.set_adapter(role)
    embedding, head = backbone._heads[role]
    text_model.embed_tokens = nn.Embedding.from_pretrained(embedding)
    linear = nn.Linear(head.shape[1], head.shape[0], bias=False)
    linear.weight = nn.Parameter(head)
    return Student(text_model, linear, tokens(mind), backbone.decoder).eval()


def tokens(mind: VideoMind) -> TokenIds:
    return TokenIds(mind.cast.backbone.video_id, mind.cast.reg, *mind.markers)


def view(mind: VideoMind, footage: Footage, marked: tuple[int, int] | None) -> View:
    found = footage.view(mind.cast.settings("grounder"))
    return View(found.indices[:12], found.height, found.width, marked)


def lesson(mind: VideoMind, footage: Footage, role: str, shown: View) -> Lesson:
    prompts = [mind.cast.prompt(role, question) for question in QUESTIONS]
    reply = mind.cast.chat.encode(REPLY)
    examples = tuple(Example(prompt.after, reply, ((0.1, 0.4),)) for prompt in prompts)
    return Lesson(footage.features([shown])[0], shown.token_grid, prompts[0].before, examples, shown.marked)


@torch.no_grad()
def read(mind: VideoMind, footage: Footage, role: str, marked: tuple[int, int] | None) -> Reading:
    return student(mind, role).read(lesson(mind, footage, role, view(mind, footage, marked)))


@pytest.mark.parametrize("role", ["planner", "grounder", "verifier"])
@pytest.mark.parametrize("marked", MARKED)
def test_each_example_is_read_as_if_it_were_asked_alone(
    own_mind: VideoMind, footage: Footage, role: str, marked: tuple[int, int] | None
) -> None:
    reading = read(own_mind, footage, role, marked)
    prefix, *own = _expected(own_mind, footage, role, marked)
    torch.testing.assert_close(reading.states, torch.cat([prefix, *own]), atol=1e-5, rtol=1e-5)


def _expected(
    mind: VideoMind, footage: Footage, role: str, marked: tuple[int, int] | None
) -> Iterator[Tensor]:
    """The states `Backbone.read` gives: the prefix's, and each question's with its reply behind it."""
    backbone, shown = mind.cast.backbone, view(mind, footage, marked)
    given = lesson(mind, footage, role, shown)
    with backbone.acting_as(role):
        passage = footage._passage(given.before, given.examples[0].after[0], shown, given.features)
        yield backbone.read([passage])[0]
        length, position = len(passage.ids), int(passage.positions.max()) + 1
        for example in given.examples:
            ids = torch.tensor([*example.after[1:], *example.reply[:-1]])
            passage.past.truncate(length)
            yield backbone.read([Passage(passage.past, ids, text_positions(position, len(ids)))])[0]


def test_frames_and_reg_have_the_states_the_grounder_uses(own_mind: VideoMind, footage: Footage) -> None:
    mind, shown = own_mind, view(own_mind, footage, None)
    reading = read(mind, footage, "grounder", None)
    prompt = mind.cast.prompt("grounder", QUESTIONS[2])
    with mind.cast.playing("grounder", footage):
        prefix = mind.cast.prefixes("grounder", footage, prompt, [shown])[0]
        footage.follow([prefix], [prompt])
        written = torch.tensor(mind.cast.chat.encode(REPLY.partition("<|reg|>")[0]))
        position = text_positions(prefix.position + len(prompt.after) - 1, len(written))
        expected = mind.cast.backbone.read([Passage(prefix.past, written, position)])[0][-1]
    assert prefix.frame_states is not None
    torch.testing.assert_close(reading.frame_states, prefix.frame_states, atol=1e-5, rtol=1e-5)
    assert reading.reg_states[2] is not None
    torch.testing.assert_close(reading.reg_states[2], expected, atol=1e-5, rtol=1e-5)


def test_each_token_of_a_reply_is_predicted_from_the_one_before_it(
    own_mind: VideoMind, footage: Footage
) -> None:
    reading = read(own_mind, footage, "verifier", (1, 3))
    given = lesson(own_mind, footage, "verifier", view(own_mind, footage, (1, 3)))
    states = list(_expected(own_mind, footage, "verifier", (1, 3)))[1:]
    with own_mind.cast.backbone.acting_as("verifier"):
        for example, found, own in zip(given.examples, reading.token_losses, states, strict=True):
            logits = own_mind.cast.backbone.next_token_logits(own[-len(example.reply) :])
            expected = torch.nn.functional.cross_entropy(
                logits, torch.tensor(example.reply), reduction="none"
            )
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_a_reply_may_follow_the_video_at_once(own_mind: VideoMind, footage: Footage) -> None:
    """As in pretraining on captions; its first token is predicted from the prefix's last."""
    shown = view(own_mind, footage, None)
    asked = lesson(own_mind, footage, "planner", shown)
    end = asked.examples[0].after[:1]
    captions = tuple(Example(end, reply) for reply in ((5, 6, 7), (8, 9)))
    given = Lesson(asked.features, asked.token_grid, asked.before, captions)
    with torch.no_grad():
        reading = student(own_mind, "planner").read(given)
    with own_mind.cast.backbone.acting_as("planner"):
        passage = footage._passage(asked.before, end[0], shown, asked.features)
        logits = own_mind.cast.backbone.next_token_logits(own_mind.cast.backbone.read([passage])[0][-1:])
    for losses, first in zip(reading.token_losses, (5, 8), strict=True):
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor([first]))
        torch.testing.assert_close(losses[0], expected, atol=1e-4, rtol=1e-5)


def test_checkpointing_changes_no_gradient(own_mind: VideoMind, footage: Footage) -> None:
    taught = student(own_mind, "grounder")
    given = lesson(own_mind, footage, "grounder", view(own_mind, footage, None))
    # What the frames have to say is a constant of training; elsewhere features are made for inference.
    given = Lesson(given.features.clone(), given.token_grid, given.before, given.examples)
    taught.requires_grad_(True)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            taught.save_memory()
        taught.train()
        taught.zero_grad()
        torch.manual_seed(0)
        taught([given]).total.backward()
        gradients.append(
            {name: w.grad.clone() for name, w in taught.named_parameters() if w.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_spans_need_a_token_to_find_them_by(own_mind: VideoMind, footage: Footage) -> None:
    given = lesson(own_mind, footage, "grounder", view(own_mind, footage, None))
    silent = Example(given.examples[0].after, (5, 6), ((0.1, 0.2),))
    with pytest.raises(ValueError, match="reg"):
        student(own_mind, "grounder")([Lesson(given.features, given.token_grid, given.before, (silent,))])


@pytest.mark.parametrize("examples", [(), (Example((1,), ()),), (Example((1,), (2,)), Example((3,), (2,)))])
def test_examples_share_their_prefix_and_have_a_reply(
    own_mind: VideoMind, examples: tuple[Example, ...]
) -> None:
    with pytest.raises(ValueError, match="vision_end"):
        student(own_mind, "planner")([Lesson(torch.zeros(2, 4, 32), (2, 2, 2), (1, 2), examples)])
