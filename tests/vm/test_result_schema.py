import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from vm.moments import Candidate, Span, rank_moments
from vm.result import Answer, Plan, Result, Step, VideoFacts

SCHEMA = json.loads(files("vm").joinpath("result.schema.json").read_text(encoding="utf-8"))
VIDEO = VideoFacts("a.mp4", 60.0, 25.0, 1500, 640, 360, "h264", 90, -0.5)
CANDIDATES = (
    Candidate(Span(1.0, 2.5), 0.75, p_yes=0.25, p_no=0.5, verifier_score=0.4375),
    Candidate(Span(0.0, 60.0), 0.5, fallback=True, p_yes=0.5, p_no=0.25, verifier_score=0.5625),
)
FULL = Result(
    question="when?",
    mode="auto",
    options=("a dog", "a cat"),
    plan=Plan((Step("grounder", "a dog"), Step("verifier"), Step("answerer")), text="[…]", fallback=True),
    query="a dog",
    candidates=CANDIDATES,
    moments=rank_moments(CANDIDATES, "a dog"),
    answer=Answer("a cat", "B", Span(0.0, 32.0)),
    video=VIDEO,
    fingerprint="0a" * 32,
    warnings=("the file ends early",),
    seconds={"decode": 0.5, "total": 1.25},
)
EMPTY = Result(
    question="what?",
    mode="answer",
    options=(),
    plan=Plan((Step("answerer"),)),
    query=None,
    candidates=(),
    moments=(),
    answer=None,
    video=VIDEO,
    fingerprint="0a" * 32,
    warnings=(),
    seconds={"total": 0.0},
)


def check(document: Any) -> None:
    Draft202012Validator(SCHEMA).validate(document)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of the schema that describes a JSON object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("result", [FULL, EMPTY], ids=["full", "empty"])
def test_results_satisfy_the_schema(result: Result) -> None:
    check(json.loads(result.to_json()))


def test_the_schema_names_exactly_what_a_full_result_holds() -> None:
    document = FULL.to_dict()
    assert list(SCHEMA["properties"]) == list(document)
    assert list(SCHEMA["$defs"]["moment"]["properties"]) == list(document["moments"][0])
    assert list(SCHEMA["$defs"]["candidate"]["properties"]) == list(document["candidates"][0])
    assert list(SCHEMA["properties"]["video"]["properties"]) == list(document["video"])


def test_nothing_unnamed_is_allowed_and_everything_is_described() -> None:
    found = list(objects(SCHEMA))
    assert len(found) == 11
    for schema in found:
        assert schema["additionalProperties"] is not True
        assert all(part.get("description") or "$ref" in part for part in schema["properties"].values())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["mode"], "guess"),
        (["extra"], 1),
        (["plan", "steps", 0, "role"], "waiter"),
        (["moments", 0, "rank"], 0),
        (["moments", 0, "start"], None),
        (["candidates", 0, "rank"], 1),
        (["candidates", 0, "p_yes"], 1.5),
        (["answer", "span"], [0, 1]),
        (["video", "frame_rate"], 0),
        (["checkpoint", "fingerprint"], "short"),
        (["seconds", "vision"], "long"),
    ],
)
def test_other_documents_do_not(path: list[Any], value: object) -> None:
    document = json.loads(FULL.to_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        check(document)
