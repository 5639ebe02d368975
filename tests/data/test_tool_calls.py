from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.data.jinja import render_text, to_json
from tutelage.data.template import Rendered, render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.data.tool_calls import answering_ids, read_reply
from tutelage.errors import DataError
from tutelage.tools.calls import BadCall, ToolCall
from tutelage.tools.text_form import read_calls

from .conftest import foreign

TOKENS = ("<|end|>", "<|tool|>", "<|assistant|>", "<|bos|>", "TutelageText0x", "TutelageText1x", '"', "\\", "{")
texts = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(TOKENS)), max_size=3).map("".join)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
json_values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2), max_leaves=5
)
calls = st.builds(ToolCall, texts.filter(bool), st.dictionaries(texts, json_values, max_size=2))
turns = st.lists(st.tuples(texts, st.lists(st.tuples(calls, texts), max_size=3)), min_size=1, max_size=3)
Turns = list[tuple[str, list[tuple[ToolCall, str]]]]
quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def conversation(turns: Turns) -> list[dict[str, Any]]:
    """Each turn: what the assistant says, and its calls with what the tools answer."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Do it."}]
    for content, called in turns:
        made = {"tool_calls": [call.to_json() for call, _ in called]} if called else {}
        messages.append({"role": "assistant", "content": content, **made})
        messages += [{"role": "tool", "content": result} for _, result in called]
    return messages


def trained(rendered: Rendered) -> list[list[int]]:
    """The runs of trained tokens: one a turn of the assistant."""
    pairs = groupby(zip(rendered.ids, rendered.loss_mask, strict=True), key=lambda pair: pair[1])
    return [[token for token, _ in group] for learnt, group in pairs if learnt]


@quick
@given(turns=turns)
def test_calls_are_learnt_and_read_back_and_results_are_not_learnt(tokenizer: TextTokenizer, turns: Turns) -> None:
    rendered = render(tokenizer, conversation(turns))
    replies = trained(rendered)
    if all(called for _, called in turns[:-1]):  # two turns of the assistant in a row are two runs all the same
        assert len(replies) == len(turns)
    for ids, (content, called) in zip(replies, turns, strict=False):
        assert read_reply(tokenizer, ids) == (content, [call for call, _ in called])
        assert ids.count(tokenizer.end_of_turn_id) == 1
        assert ids.count(tokenizer.begin_call_id or -1) == len(called)
    results = [token for token, role in zip(rendered.ids, rendered.roles, strict=True) if role == "tool"]
    assert results == [token for _, called in turns for _, result in called for token in tokenizer.encode(result)]


@quick
@given(turns=turns, results=st.lists(texts, min_size=1, max_size=3))
def test_a_reply_with_the_turns_that_answer_it_is_the_conversation_rendered(
    tokenizer: TextTokenizer, turns: Turns, results: list[str]
) -> None:
    messages = conversation(turns)
    while messages[-1]["role"] != "assistant":
        messages.pop()
    rendered = render(tokenizer, messages)
    end = len(rendered.loss_mask) - rendered.loss_mask[::-1].index(True)
    answered = [*messages, *({"role": "tool", "content": result} for result in results)]
    whole = render(tokenizer, answered, add_generation_prompt=True)
    assert rendered.ids[:end] + answering_ids(tokenizer, results) == whole.ids


def test_a_plain_reply_has_no_calls_and_typed_names_of_tokens_begin_none(tokenizer: TextTokenizer) -> None:
    text = 'I say <|tool|>{"name": "f", "arguments": {}}'
    assert read_reply(tokenizer, [*tokenizer.encode(text), tokenizer.end_of_turn_id]) == (text, [])
    assert read_reply(tokenizer, []) == ("", [])


def test_a_malformed_call_stays_what_was_written(tokenizer: TextTokenizer) -> None:
    assert tokenizer.begin_call_id is not None
    ids = [tokenizer.begin_call_id, *tokenizer.encode("add one"), tokenizer.begin_call_id, tokenizer.end_of_turn_id]
    content, (first, second) = read_reply(tokenizer, ids)
    assert content == ""
    assert isinstance(first, BadCall)
    assert (first.text, second) == ("add one", BadCall("", "the call is empty"))


def test_the_wire_form_of_calls_is_rendered_like_any_other(tokenizer: TextTokenizer) -> None:
    call = ToolCall("f", {"a": 1})
    wire = {"id": "c1", "type": "function", "function": {"arguments": '{"a": 1}', "name": "f"}}
    forms = [call.to_json(), wire, {"name": "f", "arguments": {"a": 1}}]
    rendered = [
        render(
            tokenizer, [{"role": "user", "content": "x"}, {"role": "assistant", "content": "", "tool_calls": [form]}]
        )
        for form in forms
    ]
    assert rendered[0] == rendered[1] == rendered[2]


def test_the_template_in_the_folder_says_the_same_to_others(tokenizer: TextTokenizer) -> None:
    """transformers renders messages with `content: null` and keeps keys in their order; so does this."""
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [ToolCall("f", {"é": "<b>"}).to_json()]},
    ]
    text = render_text(tokenizer.chat_template or "", messages, special_tokens={"bos_token": "<|bos|>"})
    assert text.endswith('<|assistant|><|tool|>{"name": "f", "arguments": {"é": "<b>"}}<|end|>')


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ({"name": "now"}, "now()"),
        (
            {
                "name": "book",
                "description": "Book a room.",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}, "stars": {"type": "integer", "minimum": 1}},
                    "required": ["city"],
                },
            },
            '// Book a room.\nbook(city: string, stars?: {"type": "integer", "minimum": 1})',
        ),
        ({"name": "ring", "description": "Ring.\nTwice."}, "// Ring.\n// Twice.\nring()"),
        (
            {"name": "any", "parameters": {"properties": {"x": True, "y": {"type": ["null"]}}}},
            'any(x?: true, y?: {"type": ["null"]})',
        ),
        ({"name": "tree", "parameters": {"properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {}}}}, None),
    ],
)
def test_a_tool_is_shown_as_a_signature_and_loses_nothing(
    tokenizer: TextTokenizer, function: dict[str, Any], shown: str | None
) -> None:
    tool = {"type": "function", "function": function}
    text = tokenizer.decode(render(tokenizer, [{"role": "user", "content": "x"}], tools=[tool]).ids)
    assert f"\n{shown or to_json(tool)}\n" in text


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "user", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}, "of the assistant"),
        ({"role": "assistant", "content": "", "tool_calls": {"name": "f"}}, "must be a list"),
        ({"role": "assistant", "content": "", "tool_calls": [{"arguments": {}}]}, "without a name"),
        ({"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "{"}]}, "no JSON"),
    ],
)
def test_calls_that_cannot_be_rendered(tokenizer: TextTokenizer, message: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        render(tokenizer, [message])


def test_any_token_that_a_template_writes_before_calls_begins_them() -> None:
    template = (
        "{% for m in messages %}{{ m['content'] }}{% for c in m['tool_calls'] or [] %}"
        "<|call|>{{ c['function'] | tojson }}{% endfor %}<|eos|>{% endfor %}"
    )
    other = foreign(["<|eos|>", "<|pad|>", "<|call|>"], {"eos_token": "<|eos|>", "chat_template": template})
    assert other.token(other.begin_call_id or 0) == "<|call|>"
    called = {"role": "assistant", "content": "", "tool_calls": [ToolCall("f", {}).to_json()]}
    rendered = render(other, [{"role": "user", "content": "x"}, called])
    assert read_reply(other, trained(rendered)[0]) == ("", [ToolCall("f", {})])


spoken = texts.filter(lambda text: "<tool_call>" not in text and text == text.strip())


@pytest.mark.parametrize("name", ["chatml", "llama3"])
@quick
@given(content=spoken, called=st.lists(calls, min_size=1, max_size=3), result=texts)
def test_templates_without_such_a_token_have_calls_as_text_that_is_learnt(
    name: str, tokenizers: dict[str, TextTokenizer], content: str, called: list[ToolCall], result: str
) -> None:
    tokenizer = tokenizers[name]
    turn = {"role": "assistant", "content": content, "tool_calls": [call.to_json() for call in called]}
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "x"}, turn]
    rendered = render(tokenizer, messages)
    (ids,) = trained(rendered)
    assert read_reply(tokenizer, ids) == (content, called)
    answered = render(tokenizer, [*messages, {"role": "tool", "content": result}], add_generation_prompt=True)
    end = len(rendered.loss_mask) - rendered.loss_mask[::-1].index(True)
    assert rendered.ids[:end] + answering_ids(tokenizer, [result]) == answered.ids


def test_tools_are_told_in_the_system_message_where_the_template_does_not_show_them(
    tokenizers: dict[str, TextTokenizer],
) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    asked = [{"role": "user", "content": "x"}]
    for name in ("chatml", "llama3"):
        for before in ([], [{"role": "system", "content": "Be brief."}]):
            ids = render(tokenizers[name], [*before, *asked], [tool]).ids
            text = tokenizers[name].decode(ids, skip_special_tokens=False)
            assert '"name": "add"' in text
            assert ("Be brief." in text) == bool(before)
            assert text.count("system") == 1


@pytest.mark.parametrize(
    ("text", "content", "call"),
    [
        ("Hi.", "Hi.", None),
        ('<tool_call>{"name": "f", "arguments": {}}</tool_call>', "", ToolCall("f", {})),
        ('A\n<tool_call>\n{"name": "f", "arguments": {}}', "A", ToolCall("f", {})),
        ("<tool_call>add one</tool_call>", "", None),
    ],
)
def test_calls_in_text(text: str, content: str, call: ToolCall | None) -> None:
    said, found = read_calls(text)
    assert said == content
    assert [one for one in found if isinstance(one, ToolCall)] == ([call] if call else [])
    assert bool(found) == ("<tool_call>" in text)
