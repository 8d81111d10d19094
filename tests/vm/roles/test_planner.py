import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.mind import VideoMind
from vm.result import Plan, Step
from vm.roles.planner import default_steps, fold_query, parse_plan, plan

WHOLE = ["grounder", "verifier", "answerer"]
PLANS = [WHOLE, ["grounder", "answerer"], ["grounder", "verifier"], ["grounder"], ["answerer"]]

queries = st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])).filter(fold_query)


def written(roles: list[str], query: str = "a dog") -> str:
    queries = {"grounder": {"value": query}}
    return json.dumps([{"type": role, **queries.get(role, {})} for role in roles])


@given(st.sampled_from(PLANS), queries)
def test_a_written_plan_is_read_back(roles: list[str], query: str) -> None:
    expected = tuple(Step(role, query if role == "grounder" else None) for role in roles)  # type: ignore[arg-type]
    assert parse_plan(written(roles, query)) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.sampled_from([*WHOLE, "type"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "value"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.text() | json_values.map(json.dumps))
def test_any_text_gives_a_plan_that_makes_sense_or_none(text: str) -> None:
    steps = parse_plan(text)
    assert steps is None or [step.role for step in steps] in PLANS
    assert all(fold_query(step.query or "") for step in steps or () if step.role == "grounder")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would ask the grounder.",
        "[" * 200_000,
        '{"type":' * 100_000,
        "9" * 10_000,
        "NaN",
        '[{"type": NaN}]',
        "[]",
        "null",
        '[["grounder"]]',
        '[{"type": "grounder"}]',
        '[{"type": "grounder", "value": null}]',
        '[{"type": "grounder", "value": " . "}]',
        '[{"type": "grounder", "value": ["a dog"]}]',
        '[{"type": "grounder", "value": "\\ud83d"}]',
        '[{"type": "answerer"}] and more',
        written(["verifier"]),
        written(["verifier", "grounder"]),
        written(["verifier", "answerer"]),
        written(["planner"]),
        written(["grounder", "grounder"]),
        written(["answerer", "grounder"]),
        written(["director"]),
        written([*WHOLE, "director"]),
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    assert parse_plan(text) is None


def test_a_single_step_needs_no_list_and_roles_may_be_capitalised() -> None:
    assert parse_plan('{"type": "Answerer", "value": "ignored"}') == (Step("answerer"),)


@given(st.text())
def test_a_folded_query_is_one_line_without_space_around_it(query: str) -> None:
    folded = fold_query(query)
    assert folded == " ".join(folded.split())
    assert not folded.startswith(" ")
    assert not folded.endswith(" ")


def test_folding_joins_lines_and_drops_the_final_stop() -> None:
    assert fold_query("  a dog\n barks\t. ") == "a dog barks"
    assert fold_query("a 1.5 m dog.") == "a 1.5 m dog"
    assert fold_query(" ... ") == ""


@dataclass
class ScriptedCast:
    """Writes what it is told to, whatever it is shown."""

    reply: str

    def playing(self, role: str, footage: object) -> Any:
        return nullcontext()

    def write(self, role: str, footage: object, text: str) -> str:
        return self.reply


def planned(reply: str) -> Plan:
    return plan(ScriptedCast(reply), None, "When does a dog bark?")  # type: ignore[arg-type]


def test_the_plan_keeps_what_the_planner_wrote() -> None:
    reply = written(WHOLE, "a dog barks")
    assert planned(reply) == Plan(
        (Step("grounder", "a dog barks"), Step("verifier"), Step("answerer")), text=reply, fallback=False
    )


def test_an_unusable_plan_falls_back_to_the_question_and_says_so() -> None:
    assert planned("no idea") == Plan(default_steps("When does a dog bark?"), text="no idea", fallback=True)


def test_the_miniature_plans_alike_each_time_it_is_asked(mind: VideoMind, short_video: Path) -> None:
    with mind.open(short_video) as watched:
        plans = [plan(mind.cast, watched._footage, "When does it move?") for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0].text
