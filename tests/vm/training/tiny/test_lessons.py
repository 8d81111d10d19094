import random

import pytest
import torch

from vm.config import PIXEL_FACTOR
from vm.moments import Span
from vm.roles.planner import parse_plan
from vm.scenes.clip import clips
from vm.training.student import TokenIds, lay_out
from vm.training.tiny.bank import Footprint, training_clip, views
from vm.training.tiny.base_lessons import SORTS, Sort, draw_sort
from vm.training.tiny.pupil import Pupil
from vm.training.tiny.role_lessons import (
    event_of,
    grounder_lesson,
    guessed_candidate,
    judged,
    localised,
    planner_lesson,
    verifier_lesson,
)
from vm.training.tiny.sizes import HIDDEN, SPECIAL_TOKENS
from vm.training.tiny.tokenizer import make_tokenizer
from vm.training.tiny.vision import shown_size
from vm.training.tiny.wording import corpus

NUMBERS = range(12)


@pytest.fixture(scope="module")
def pupil(tmp_path_factory: pytest.TempPathFactory) -> Pupil:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(corpus(clips("train", 120)), folder)
    return Pupil.load(folder)


@pytest.fixture(scope="module")
def footprints() -> list[Footprint]:
    return [_footprint(number) for number in NUMBERS]


def _footprint(number: int) -> Footprint:
    """Features that are nothing but numbers: nobody looks at them here."""
    clip = training_clip(number)
    height, width = shown_size(clip)
    tokens = height * width // PIXEL_FACTOR**2
    seen = {name: torch.rand(len(v) // 2, tokens, HIDDEN).half() for name, v in views(clip).items()}
    ground = seen["ground"]
    return Footprint(clip, ground, seen.get("dense", ground), seen.get("whole", ground))


def test_yes_and_no_and_what_is_special_are_one_token_each(pupil: Pupil) -> None:
    for text in ("Yes", "No", *SPECIAL_TOKENS):
        assert pupil.chat.decode([pupil.chat.token_id(text)]) == text


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_of_lesson_can_be_laid_out_and_ends_its_turns(
    sort: Sort, pupil: Pupil, footprints: list[Footprint]
) -> None:
    ids = pupil.special_ids
    tokens = TokenIds(*(ids[f"<|{name}|>"] for name in ("video_pad", "reg", "seg_start", "seg_end")))
    for footprint in footprints:
        taught = sort(pupil, footprint, random.Random(1))

        frames, rows, columns = taught.lesson.token_grid
        assert taught.lesson.features.shape == (frames, rows * columns, HIDDEN)
        assert (lay_out(taught.lesson, tokens).ids == tokens.video).sum() == frames * rows * columns
        assert all(example.reply[-1] == pupil.end for example in taught.lesson.examples)
        assert 0 <= taught.span.start < taught.span.end <= footprint.clip.duration + 1e-6


@pytest.mark.parametrize("sort", SORTS)
def test_what_an_example_asks_about_lies_within_what_is_shown(
    sort: Sort, pupil: Pupil, footprints: list[Footprint]
) -> None:
    for footprint in footprints:
        taught = sort(pupil, footprint, random.Random(2))
        for about, example in zip(taught.about, taught.lesson.examples, strict=False):
            if about is None:
                assert not example.spans
                continue
            event = about.event
            assert about.text in pupil.chat.decode(list(example.after))
            for start, end in example.spans:
                assert 0 <= start < end <= 1 + 1e-6
                found = taught.span.start + start * taught.span.length
                assert found == pytest.approx(event.span.start, abs=1e-6)


def test_a_stretch_of_a_long_clip_stands_for_a_clip_now_and_then(
    pupil: Pupil, footprints: list[Footprint]
) -> None:
    ground = next(iter(SORTS))
    long = next(f for f in footprints if f.clip.duration > 45)
    shown = [ground(pupil, long, random.Random(seed)).span.length for seed in range(20)]

    assert max(shown) == pytest.approx(long.clip.duration)
    assert min(shown) < 45


def test_lessons_of_one_chance_are_the_same(pupil: Pupil, footprints: list[Footprint]) -> None:
    for sort in SORTS:
        one, other = (sort(pupil, footprints[0], random.Random(7)) for _ in range(2))
        assert one.lesson.examples == other.lesson.examples


def test_sorts_come_as_often_as_they_are_worth() -> None:
    rng = random.Random(0)
    drawn = [draw_sort(rng) for _ in range(4000)]

    for sort, worth in SORTS.items():
        assert drawn.count(sort) / 4000 == pytest.approx(worth, abs=0.03)


def test_a_stretch_is_cut_where_it_is_said_to_lie(footprints: list[Footprint]) -> None:
    for footprint in footprints:
        duration, count = footprint.clip.duration, len(footprint.dense)
        wanted = Span(duration * 0.3, duration * 0.6)
        fitted = footprint.fitted(wanted)

        assert fitted.iou(wanted) > 0.6
        length = len(footprint.cut(wanted))
        assert length == pytest.approx(fitted.length / duration * count)
        first = round(fitted.start / duration * count)
        assert torch.equal(footprint.cut(wanted), footprint.dense[first : first + length])


def test_the_shortest_stretch_has_two_patches(footprints: list[Footprint]) -> None:
    end = footprints[0].clip.duration
    assert len(footprints[0].cut(Span(end, end))) == 2


def test_the_planner_learns_plans_that_can_be_read(pupil: Pupil, footprints: list[Footprint]) -> None:
    for footprint in footprints:
        for example in planner_lesson(pupil, footprint, random.Random(0)).examples:
            assert parse_plan(pupil.chat.decode(list(example.reply[:-1]))) is not None


def test_the_grounder_learns_where_in_the_clip(pupil: Pupil, footprints: list[Footprint]) -> None:
    reg = pupil.special_ids["<|reg|>"]
    for footprint in footprints:
        asked = localised(footprint, random.Random(0))
        lesson = grounder_lesson(pupil, footprint, asked)
        for question, example in zip(asked, lesson.examples, strict=True):
            seconds = [(a * footprint.clip.duration, b * footprint.clip.duration) for a, b in example.spans]
            assert seconds == [pytest.approx((span.start, span.end)) for span in question.spans]
            assert example.reply.index(reg) == 1  # one that opened the reply would not count


def test_the_better_a_candidate_fits_the_oftener_it_is_a_yes(
    pupil: Pupil, footprints: list[Footprint]
) -> None:
    footprint = next(f for f in footprints if localised(f, random.Random(0)))
    question = localised(footprint, random.Random(0))[0]
    true, yes = question.spans[0], pupil.chat.token_id("Yes")

    def share(candidate: Span) -> float:
        lessons = (
            verifier_lesson(pupil, footprint, candidate, [question], random.Random(seed))[0]
            for seed in range(60)
        )
        return sum(lesson.examples[0].reply[0] == yes for lesson in lessons) / 60

    half = Span(true.start, true.start + true.length * 0.55)
    beside = Span.clamped(true.end, true.end + true.length, footprint.clip.duration)
    assert share(true) == 1.0
    assert 0.2 < share(half) < 0.8
    assert share(beside) == 0.0


def test_a_candidate_is_marked_within_what_is_shown(pupil: Pupil, footprints: list[Footprint]) -> None:
    for footprint in footprints:
        candidate = guessed_candidate(Span(2, 6), footprint.clip.duration, random.Random(3))
        asked = localised(footprint, random.Random(0))[:2]
        if asked:
            lesson, shown = verifier_lesson(pupil, footprint, candidate, asked, random.Random(0))
            assert lesson.marked is not None
            assert 0 <= lesson.marked[0] <= lesson.marked[1] <= lesson.token_grid[0]
            assert shown.intersection(candidate) >= 0.5 * candidate.length


def test_a_candidate_is_judged_by_what_it_is_right_and_what_it_is_wrong_for(
    footprints: list[Footprint],
) -> None:
    rng = random.Random(0)
    footprint = max(footprints, key=lambda f: len({q.spans for q in localised(f, rng)}))
    event = event_of(footprint.clip.script, localised(footprint, rng)[0])
    asked = judged(footprint, event.span, 6, rng)

    fits = [question for question in asked if event.span.iou(question.spans[0]) >= 0.5]
    assert 0 < len(fits) <= 3
    assert len(asked) == 6


def test_a_question_leads_back_to_its_event(footprints: list[Footprint]) -> None:
    for footprint in footprints:
        for question in localised(footprint, random.Random(0)):
            event = event_of(footprint.clip.script, question)
            assert event.span == question.spans[0]
            assert event.action == question.topic
