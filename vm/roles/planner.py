"""The planner reads the question and writes which roles are to work, and on what (paper section 3.2)."""

from __future__ import annotations

import json
from typing import Any, get_args

from vm.cast import Cast
from vm.footage import Footage
from vm.result import Plan, Role, Route, Step

# What a plan may be: ground and answer, ground only, answer only. The verifier may be left out: a
# grounder is always followed by it.
_ALLOWED = {
    ("grounder", "verifier", "answerer"),
    ("grounder", "answerer"),
    ("grounder", "verifier"),
    ("grounder",),
    ("answerer",),
}


def plan(cast: Cast, footage: Footage, question: str) -> Plan:
    """Ask the planner; a plan that cannot be used falls back to grounding and answering the question."""
    with cast.playing("planner", footage):
        text = cast.write("planner", footage, question)
    steps = parse_plan(text)
    if steps is None:
        return Plan(default_steps(question), text, fallback=True)
    return Plan(steps, text)


def default_steps(query: str) -> tuple[Step, ...]:
    """Ground `query`, verify and answer."""
    return Step("grounder", query), Step("verifier"), Step("answerer")


def fixed_steps(route: Route, query: str) -> tuple[Step, ...]:
    """The steps of a plan that needs no planner."""
    steps = default_steps(query)
    return {"ground-answer": steps, "ground": steps[:-1], "answer": steps[-1:]}[route]


def plan_text(route: Route, query: str) -> str:
    """What a planner writes who chooses that route: what `parse_plan` reads."""
    steps = fixed_steps(route, query)
    written = [{"type": s.role} | ({} if s.query is None else {"value": s.query}) for s in steps]
    return json.dumps(written, ensure_ascii=False)


def parse_plan(text: str) -> tuple[Step, ...] | None:
    """The steps a planner's JSON describes, or None where it is not a plan that makes sense.

    A plan is a list (or a single object) of `{"type": role, "value": query}`. Only the grounder's
    value is looked at, and it must not be empty.
    """
    try:
        written = json.loads(text)
        steps = tuple(_parse_step(item) for item in (written if isinstance(written, list) else [written]))
    except (ValueError, RecursionError):
        return None
    return steps if tuple(step.role for step in steps) in _ALLOWED else None


def _parse_step(item: Any) -> Step:
    """Raises: ValueError."""
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise ValueError("a step must be an object with a type")
    role = item["type"].lower()
    if role not in get_args(Role) or role == "planner":
        raise ValueError(f"unknown role {role!r}")
    if role != "grounder":
        return Step(role)
    query = item.get("value")
    if not isinstance(query, str) or not fold_query(query):
        raise ValueError("the grounder needs a query")
    query.encode()  # refuses halves of surrogate pairs, which JSON can spell and no tokenizer reads
    return Step(role, query)


def fold_query(query: str) -> str:
    """White space folded, stops at both ends removed, as the grounder was trained with."""
    return " ".join(query.split()).strip(".").strip()
