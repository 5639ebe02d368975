from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.tools.schema import check_schema, coerce, problems

TEXT: dict[str, Any] = {"type": "string"}
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "description": "Where."},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"enum": ["C", "F"]},
        "tags": {"type": "array", "items": TEXT, "maxItems": 2},
        "exact": {"type": ["boolean", "null"]},
    },
    "required": ["city"],
}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def schema_of(value: Any) -> dict[str, Any]:
    """The narrowest schema of one value."""
    if isinstance(value, dict):
        properties = {name: schema_of(entry) for name, entry in value.items()}
        return {"type": "object", "properties": properties, "required": list(value)}
    if isinstance(value, list):
        return {"type": "array", "minItems": len(value), "maxItems": len(value)}
    return {"enum": [value]}


@given(value=values)
def test_a_value_fits_its_own_schema_and_another_does_not(value: Any) -> None:
    schema = schema_of(value)
    check_schema(schema, "test")
    assert problems(value, schema) == []
    assert problems([value, None, 1, 2], schema)


@given(value=values)
def test_coercion_never_changes_what_fits_and_is_done_in_one_step(value: Any) -> None:
    assert coerce(value, schema_of(value)) == value
    made = coerce({"city": value, "days": value, "tags": [value], "exact": value}, PLACE)
    assert coerce(made, PLACE) == made
    assert json.loads(json.dumps(made)) == made


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "has no 'city'"),
        ({"city": 3}, "arguments.city is 3: expected string"),
        ({"city": ""}, "shorter than 1"),
        ({"city": "Rome", "days": 9}, "arguments.days is 9: more than 7"),
        ({"city": "Rome", "days": True}, "expected integer"),
        ({"city": "Rome", "days": 1.5}, "expected integer"),
        ({"city": "Rome", "unit": "K"}, 'expected one of "C", "F"'),
        ({"city": "Rome", "tags": ["a", 2]}, "arguments.tags[1] is 2"),
        ({"city": "Rome", "tags": ["a", "b", "c"]}, "more than 2 items"),
        ({"city": "Rome", "town": "x"}, "unknown 'town'"),
        ({"city": "Rome", "day": 1}, "did you mean 'days'?"),
        ({"city": "Rome", "exact": 0}, "boolean or null"),
        ([], "expected object"),
    ],
)
def test_problems_name_place_value_and_what_is_expected(arguments: Any, problem: str) -> None:
    assert problem in "; ".join(problems(arguments, PLACE))


@pytest.mark.parametrize(
    ("schema", "value", "made"),
    [
        ({"type": "integer"}, "12", 12),
        ({"type": "integer"}, 12.0, 12),
        ({"type": "integer"}, "12.5", "12.5"),
        ({"type": "integer"}, "1e999", "1e999"),
        ({"type": "number"}, "12.5", 12.5),
        ({"type": "number"}, "nan", "nan"),
        ({"type": "string"}, 12, "12"),
        ({"type": "string"}, None, None),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": ["string", "integer"]}, 12, 12),
        ({"type": "array", "items": {"type": "integer"}}, ["1", 2], [1, 2]),
    ],
)
def test_only_what_is_meant_in_one_way_is_made_the_type_that_is_due(schema: Any, value: Any, made: Any) -> None:
    result = coerce(value, schema)
    assert (result, type(result)) == (made, type(made))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("string", "not a JSON Schema"),
        ({}, "neither `type` nor `enum`"),
        ({"type": "str"}, "no type 'str'"),
        ({"type": "string", "patern": "a"}, "'patern' is not known"),
        ({"type": "string", "minlength": 1}, "did you mean 'minLength'"),
        ({"anyOf": [TEXT]}, "'anyOf' is not known"),
        ({"enum": []}, "list of values"),
        ({"type": "integer", "minimum": "1"}, "write a number"),
        ({"type": "object", "properties": [TEXT]}, "name → schema"),
        ({"type": "object", "properties": {"a": {"type": "x"}}}, "p.a: there is no type"),
        ({"type": "object", "properties": {}, "required": ["a"]}, "names 'a'"),
        ({"type": "object", "additionalProperties": TEXT}, "true or false"),
        ({"type": "array", "items": {"type": "x"}}, r"p\[\]: there is no type"),
    ],
)
def test_what_cannot_be_judged_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_schema(schema, "p")
