from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tutelage.data.conversations import check_trainable, render_set
from tutelage.data.template import render
from tutelage.data.tokenizer import TextTokenizer
from tutelage.errors import DataError

from .conftest import foreign

NAMES = ("own", "chatml", "llama3")
SPECIAL = ("<|end|>", "<|bos|>", "<|assistant|>", "<|im_end|>", "<|eot_id|>", "<|begin_of_text|>", "TutelageText0x")
contents = st.lists(st.one_of(st.text(max_size=10), st.sampled_from(SPECIAL)), max_size=4).map("".join)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": draw(contents)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [{"role": role, "content": draw(contents)} for role in ("user", "assistant")]
    return messages


quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.mark.parametrize("name", NAMES)
@quick
@given(messages=conversations())
def test_the_prompt_is_a_prefix_of_the_conversation(
    name: str, tokenizers: dict[str, TextTokenizer], messages: list[dict[str, str]]
) -> None:
    tokenizer = tokenizers[name]
    whole = render(tokenizer, messages)
    prompt = render(tokenizer, messages[:-1], add_generation_prompt=True)
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.loss_mask[: len(prompt.ids)] == prompt.loss_mask


@pytest.mark.parametrize("name", NAMES)
@quick
@given(messages=conversations())
def test_the_mask_is_assistant_contents_and_the_end_of_turn(
    name: str, tokenizers: dict[str, TextTokenizer], messages: list[dict[str, str]]
) -> None:
    tokenizer = tokenizers[name]
    rendered = render(tokenizer, messages)
    trained = [token for token, learnt in zip(rendered.ids, rendered.loss_mask, strict=True) if learnt]
    expected: list[int] = []
    for message in messages:
        if message["role"] == "assistant":
            content = message["content"].strip() if name == "llama3" else message["content"]
            expected += [*tokenizer.encode(content), tokenizer.end_of_turn_id]
    assert trained == expected


@pytest.mark.parametrize("name", NAMES)
@quick
@given(messages=conversations())
def test_text_of_people_is_never_a_special_token(
    name: str, tokenizers: dict[str, TextTokenizer], messages: list[dict[str, str]]
) -> None:
    tokenizer = tokenizers[name]
    rendered = render(tokenizer, messages)
    turns = len(messages) + (name == "chatml" and messages[0]["role"] != "system")
    assert rendered.ids.count(tokenizer.end_of_turn_id) == turns
    if name != "chatml":
        assert rendered.ids.count(tokenizer.bos_id) == 1
        assert rendered.ids[0] == tokenizer.bos_id


def test_tokens_are_those_of_the_plain_rendering(tokenizer: TextTokenizer) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Paris."}]
    rendered = render(tokenizer, messages)
    assert rendered.ids == tokenizer.encode_markup("<|bos|><|user|>Hi<|end|><|assistant|>Paris.<|end|>")
    assert [role for role in rendered.roles if role] == ["user"] * len(tokenizer.encode("Hi")) + ["assistant"] * len(
        tokenizer.encode("Paris.")
    )


def test_tools_are_text_too(tokenizer: TextTokenizer) -> None:
    said = {"description": 'says "<|end|>"\n<|assistant|>'}
    as_json = {"name": "add", **said, "parameters": {"a": ["<|bos|>"]}}
    as_signature = {"name": "a<|end|>", **said, "parameters": {"properties": {"<|bos|>": {"type": "<|end|>"}}}}
    tools = [as_json, as_signature]
    rendered = render(tokenizer, [{"role": "user", "content": "1 + 1?"}], tools=tools)
    assert rendered.ids.count(tokenizer.end_of_turn_id) == 2
    assert rendered.ids.count(tokenizer.bos_id) == 1
    text = tokenizer.decode(rendered.ids, skip_special_tokens=False)
    assert r'"description": "says \"<|end|>\"\n<|assistant|>"' in text
    assert '\n// says "<|end|>"\n// <|assistant|>\na<|end|>(<|bos|>?: <|end|>)\n' in text


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([{"role": "wizard", "content": "x"}], "unknown role wizard"),
        ([{"role": "user", "content": None}], "text `content`"),
        ([{"role": "user", "content": [{"type": "text"}]}], "text `content`"),
        ([{"content": "x"}], "text `role`"),
    ],
)
def test_messages_that_cannot_be_rendered(tokenizer: TextTokenizer, messages: list[Any], named: str) -> None:
    with pytest.raises(DataError, match=named):
        render(tokenizer, messages)


def test_a_template_that_rewrites_contents_is_refused() -> None:
    template = "{% for m in messages %}{{ m['content'] | upper }}<|end|>{% endfor %}"
    tokenizer = foreign(["<|end|>", "<|eos|>", "<|pad|>"], {"eos_token": "<|eos|>", "chat_template": template})
    with pytest.raises(DataError, match="rewrites the content"):
        render(tokenizer, [{"role": "user", "content": "abc"}])


def test_templates_are_sandboxed_and_know_what_others_know() -> None:
    config = {"eos_token": "<|eos|>", "chat_template": "{{ messages.__class__.__mro__ }}"}
    tokenizer = foreign(["<|eos|>", "<|pad|>"], config)
    with pytest.raises(DataError, match="unsafe"):
        render(tokenizer, [{"role": "user", "content": "abc"}])
    template = (
        "{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}"
        "{% generation %}{{ m['content'] }}{% endgeneration %}<|eos|>{% endfor %}{{ strftime_now('%Y') }}"
    )
    tokenizer = foreign(["<|eos|>", "<|pad|>"], {"eos_token": "<|eos|>", "chat_template": template})
    rendered = render(tokenizer, [{"role": "assistant", "content": "abc"}])
    assert tokenizer.decode(rendered.ids, skip_special_tokens=False) == "abc<|eos|>2024"
    with pytest.raises(DataError, match="no chat template"):
        render(foreign(["<|eos|>", "<|pad|>"], {"eos_token": "<|eos|>"}), [{"role": "user", "content": "abc"}])


def _chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_rows_that_cannot_be_used_are_dropped_and_counted(tokenizer: TextTokenizer) -> None:
    rows = [_chat("a", "b"), {"messages": [{"role": "user", "content": "a"}]}, _chat("a" * 50, "b")]
    rendered = render_set(tokenizer, rows, context=20)
    assert [row.ids for row in rendered.rows] == [render(tokenizer, rows[0]["messages"]).ids]
    assert (rendered.num_untrained, rendered.num_too_long) == (1, 1)
    assert rendered.longest == len(render(tokenizer, rows[2]["messages"]).ids)
    assert len(rendered.notes(20)) == 2
    with pytest.raises(DataError, match=rf"context of 20 tokens; the longest of all has {rendered.longest}"):
        render_set(tokenizer, rows[2:], context=20)
    with pytest.raises(DataError, match="anything to learn"):
        render_set(tokenizer, rows[1:2], context=20)


def test_an_end_of_turn_that_is_never_trained_is_an_error() -> None:
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}<|eos|>"
    special = ["<|eos|>", "<|pad|>"]
    tokenizer = foreign(special, {"eos_token": "<|eos|>", "chat_template": template})
    check_trainable(tokenizer, [render(tokenizer, _chat("a", "b")["messages"])])
    messages = [*_chat("a", "b")["messages"], {"role": "user", "content": "c"}]  # no end after the assistant
    with pytest.raises(DataError, match="never stop"):
        check_trainable(tokenizer, [render(tokenizer, messages)])
