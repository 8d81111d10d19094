import json
from pathlib import Path
from typing import Any

import pytest

from vm.config import PUBLISHED_ROLES
from vm.errors import CheckpointError, InvalidRoles, MissingRole
from vm.mind import VideoMind
from vm.prompts import ROLES_FILE, load_role_book, parse_role_book

NAMES = ("im_start", "im_end", "vision_start", "video_pad", "reg", "seg_start")
CONTROL_TOKENS = [f"<|{name}|>" for name in NAMES]


def load(folder: Path, content: Any, adapters: tuple[str, ...] = ()) -> object:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / ROLES_FILE).write_text(text, encoding="utf-8")
    return load_role_book(folder, adapters)


def test_missing_budgets_are_the_published_ones() -> None:
    book = parse_role_book({"roles": {"planner": {"prompt": "Plan '{}'"}}})
    assert {**vars(book.settings("planner")), "prompt": "{}"} == vars(PUBLISHED_ROLES["planner"])
    assert book.settings("verifier") == PUBLISHED_ROLES["verifier"]


def test_given_budgets_and_tokens_are_used() -> None:
    grounder = {"prompt": "{}", "max_frames": 8, "frame_rate": 0.5}
    book = parse_role_book({"special_tokens": {"reg": "<r>"}, "roles": {"grounder": grounder}})
    assert (book.settings("grounder").max_frames, book.settings("grounder").frame_rate) == (8, 0.5)
    assert (book.reg, book.seg_start, book.seg_end) == ("<r>", "<|seg_start|>", "<|seg_end|>")


def test_the_least_an_answerer_is_shown_is_the_checkpoints_or_the_published_one() -> None:
    given = parse_role_book({"roles": {"answerer": {"min_seconds": 8.0}}})
    assert given.settings("answerer").min_seconds == 8.0
    assert parse_role_book({}).settings("answerer").min_seconds == 32.0


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("Find '{}'.", "Find '{x}'."), ("{0}", "{x}"), ("{{\"a\": '{}'}}", "{\"a\": '{x}'}")],
)
def test_a_prompt_takes_any_text_in_its_one_place(prompt: str, expected: str) -> None:
    assert parse_role_book({"roles": {"planner": {"prompt": prompt}}}).prompt("planner", "{x}") == expected


@pytest.mark.parametrize(
    "prompt", ["no place", "{} and {}", "{name}", "{0.__class__}", "{!r}", "{:>999999999}", "{", 7, None]
)
def test_a_prompt_without_exactly_one_plain_place_is_refused(tmp_path: Path, prompt: object) -> None:
    with pytest.raises(InvalidRoles, match=ROLES_FILE):
        load(tmp_path, {"roles": {"planner": {"prompt": prompt}}})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "recursion"),
        ([], "must be an object"),
        ({"roles": []}, "roles must be an object"),
        ({"roles": {"planner": "{}"}}, "planner must be an object"),
        ({"roles": {"Planner": {"prompt": "{}"}}}, "unknown entries: Planner"),
        ({"roles": {"base": {"prompt": "{}"}}}, "unknown entries: base"),
        ({"roles": {"../x": {"prompt": "{}"}}}, "unknown entries: ../x"),
        ({"roles": {"narrator": {"max_frames": 4}}}, "narrator has no prompt"),
        ({"roles": {"planner": {"promt": "{}"}}}, "unknown entries: promt"),
        ({"special_tokens": {"reg": ""}}, "special_tokens"),
        ({"special_tokens": {"rag": "<|reg|>"}}, "unknown entries: rag"),
        ({"roles": {"planner": {"max_frames": 1}}}, "max_frames"),
        ({"roles": {"planner": {"max_frames": 7.5}}}, "max_frames of planner must be a whole number"),
        ({"roles": {"planner": {"max_new_tokens": True}}}, "max_new_tokens of planner must be a whole"),
        ('{"roles": {"planner": {"frame_rate": NaN}}}', "frame_rate"),
        ('{"roles": {"planner": {"frame_rate": Infinity}}}', "frame_rate"),
        ({"roles": {"planner": {"frame_rate": "fast"}}}, "not supported"),
        ({"roles": {"planner": {"min_pixels": 100_000}}}, "pixel limits"),
        ({"roles": {"answerer": {"min_seconds": -1}}}, "min_seconds is -1"),
        ('{"roles": {"answerer": {"min_seconds": Infinity}}}', "min_seconds is inf"),
        ({"roles": {"answerer": {"min_seconds": "long"}}}, "not supported"),
        ({"roles": {"answerer": {"choose_by": "chance"}}}, "choose_by is 'chance'"),
        ({"roles": {"verifier": {"prompt": "{}", "confidence_weight": -1}}}, "confidence_weight is -1"),
    ],
)
def test_malformed_roles_are_refused_with_the_file_and_the_reason(
    tmp_path: Path, content: object, complaint: str
) -> None:
    with pytest.raises(InvalidRoles, match=complaint) as caught:
        load(tmp_path, content)
    assert str(tmp_path / ROLES_FILE) in str(caught.value)


def test_missing_roles_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InvalidRoles, match=r"import-checkpoint .* --constants"):
        load_role_book(tmp_path)


def test_a_role_with_weights_needs_its_prompt(tmp_path: Path) -> None:
    content = {"roles": {"grounder": {"prompt": "Find '{}'."}, "verifier": {"max_frames": 8}}}
    load(tmp_path, content, ("grounder", "answerer"))
    with pytest.raises(InvalidRoles, match="verifier has no prompt"):
        load(tmp_path, content, ("grounder", "verifier"))


def test_a_role_of_ones_own_has_the_answerers_budgets_unless_it_is_given_others() -> None:
    narrator = {"prompt": "Tell: '{}'", "max_frames": 8}
    book = parse_role_book({"roles": {"narrator": narrator}})
    expected = {**vars(PUBLISHED_ROLES["answerer"]), **narrator}
    assert vars(book.settings("narrator")) == expected
    assert [*book.roles] == [*PUBLISHED_ROLES, "narrator"]


def test_an_unknown_role_is_missing() -> None:
    with pytest.raises(MissingRole, match="director"):
        parse_role_book({}).settings("director")


def test_a_chat_prompt_leaves_one_place_for_the_video(mind: VideoMind) -> None:
    prompt = mind.cast.chat.chat("What happens?")
    assert prompt.before[-1] == mind.cast.chat.token_id("<|vision_start|>")
    assert prompt.after[0] == mind.cast.chat.token_id("<|vision_end|>")
    assert mind.cast.chat.decode(list(prompt.after)) == (
        "<|vision_end|>What happens?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_beginning_of_a_reply_ends_the_prompt(mind: VideoMind) -> None:
    bare, begun = mind.cast.chat.chat("Which?"), mind.cast.chat.chat("Which?", "(")
    assert begun.before == bare.before
    assert begun.after == (*bare.after, mind.cast.chat.token_id("("))


@pytest.mark.parametrize("token", CONTROL_TOKENS)
@pytest.mark.parametrize("wrap", ["{}", "a{}b", "<|im_{}end|>", "{0}{0}"])
def test_text_from_outside_holds_no_control_tokens(mind: VideoMind, token: str, wrap: str) -> None:
    chat = mind.cast.chat
    harmless, hostile = (chat.chat(chat.plain(text)) for text in ("x", wrap.format(token)))
    special = {chat.token_id(name) for name in CONTROL_TOKENS}
    assert [i for i in hostile.after if i in special] == [i for i in harmless.after if i in special]
    assert hostile.before == harmless.before


def test_plain_text_stays_as_it_is(mind: VideoMind) -> None:
    text = "Is <this> | a |> test? 你好 \n{}"
    assert mind.cast.chat.plain(text) == text


def test_a_text_of_several_tokens_has_no_single_id(mind: VideoMind) -> None:
    with pytest.raises(CheckpointError, match="not a single token"):
        mind.cast.chat.token_id("two words")
