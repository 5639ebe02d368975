from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.tools.calls import MAX_CALL, BadCall, ToolCall, call_of, parse_call
from tutelage.tools.toolbox import Definition, settle

from .test_schema import values

arguments = st.dictionaries(st.text(max_size=6), values, max_size=3)
calls = st.builds(ToolCall, st.text(min_size=1, max_size=8), arguments)
NUMBERS = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ADD = Definition("add", "Add.", NUMBERS)
SAY = Definition("say", "Say.", {"type": "object", "properties": {"text": {"type": "string"}}})


@given(call=calls)
def test_what_is_written_is_read(call: ToolCall) -> None:
    assert parse_call(call.text) == call
    assert call_of(call.to_json()) == call
    wire = {"type": "function", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}, "id": "c1"}
    assert call_of(wire) == ToolCall(call.name, call.arguments, "c1")


@given(call=calls, data=st.data())
def test_missing_closing_brackets_are_put_back_but_never_a_text_completed(call: ToolCall, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(call.text) - 1))
    parsed = parse_call(call.text[:cut])
    if call.text[cut:].strip("]}"):
        assert isinstance(parsed, BadCall) or parsed.repairs
    else:
        assert isinstance(parsed, ToolCall)
        assert (parsed.name, parsed.arguments) == (call.name, call.arguments)
        assert parsed.repairs == ("closing brackets missing",)
    surplus = parse_call(call.text + "}" * data.draw(st.integers(1, 3)))
    assert isinstance(surplus, ToolCall)
    assert (surplus.arguments, surplus.repairs) == (call.arguments, ("closing brackets too many",))


@given(text=st.text(alphabet="{}[]\",:'\\ namerguts0123truefalsn", max_size=60))
def test_every_text_gives_a_call_or_a_reason(text: str) -> None:
    parsed = parse_call(text)
    assert parsed.name if isinstance(parsed, ToolCall) else parsed.reason


@pytest.mark.parametrize(
    ("text", "repair"),
    [
        ('{"name": "add", "arguments": {"a": 1, "b": 2}', "brackets missing"),
        ('{"name": "add", "arguments": {"a": 1, "b": 2}}}', "too many"),
        ("{'name': 'add', 'arguments': {'a': 1, 'b': 2}}", "Python"),
        ('{"name": "add", "arguments": {"a": 1, "b": 2,},}', "Python"),
        ('{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": 2}"}', "in a text"),
        ('{"name": "add", "parameters": {"a": 1, "b": 2}}', "`parameters`"),
        ('{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}', "wrapping"),
        ('{"name": "Add", "arguments": {"a": 1, "b": 2}}', "read as 'add'"),
        ('{"name": "add", "arguments": {"a": "1", "b": 2.0}}', "of the type that is due"),
    ],
)
def test_what_can_be_meant_in_one_way_is_mended_and_told(text: str, repair: str) -> None:
    parsed = parse_call(text)
    assert isinstance(parsed, ToolCall)
    settled = settle(parsed, [ADD, SAY])
    assert isinstance(settled, ToolCall)
    assert (settled.name, settled.arguments) == ("add", {"a": 1, "b": 2})
    assert repair in "; ".join(settled.repairs)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("add 1 and 2", "not JSON"),
        ('{"name": "say", "arguments": {"text": "half of a', "not JSON"),
        ("[1, 2]", "no name"),
        ('{"arguments": {}}', "no name"),
        ('{"name": "add", "arguments": [1, 2]}', "expected an object"),
        ('{"name": "add", "arguments": "1 and 2"}', "expected an object"),
        ('{"name": "add", "arguments": {"a": NaN, "b": 1}}', "NaN"),
        ('{"name": "add", "arguments": {}, "because": 1}', "unknown 'because'"),
        ("[" * 5000 + "]" * 5000, "not JSON"),
        (" " * 5 + "x" * (MAX_CALL + 1), "characters"),
        ('{"name": "ad", "arguments": {"a": 1, "b": 2}}', "did you mean 'add'?"),
        ('{"name": "xyz", "arguments": {}}', "the tools are: add, say"),
        ('{"name": "add", "arguments": {"a": 1}}', "has no 'b'"),
        ('{"name": "add", "arguments": {"a": 1, "b": "two"}}', 'arguments.b is "two": expected integer'),
        ('{"name": "add", "arguments": {"a": 1, "b": 2, "c": 3}}', "unknown 'c'"),
    ],
)
def test_what_is_not_clear_is_shown_with_the_reason(text: str, reason: str) -> None:
    parsed = parse_call(text)
    settled = settle(parsed, [ADD, SAY]) if isinstance(parsed, ToolCall) else parsed
    assert isinstance(settled, BadCall)
    assert reason in settled.reason


@pytest.mark.parametrize("value", [None, "add", {}, {"function": {"name": ""}}, {"name": "f", "arguments": "{"},
                                   {"name": "f", "arguments": [1]}])  # fmt: skip
def test_calls_of_data_sets_must_be_calls(value: Any) -> None:
    with pytest.raises(DataError, match=r"tool call without|the arguments of"):
        call_of(value)
