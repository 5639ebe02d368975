"""Chat over HTTP with the openai client: replies, streams, stops, log-probs, tools, formats, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch

import tiny
from serve.live import CONTEXT, Running
from tutelage.data.completions import prompt_ids
from tutelage.serve.logprobs import token_text

ASKED: Any = [{"role": "user", "content": "What is the capital of France?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look a country up.",
        "parameters": {
            "type": "object",
            "properties": {
                "country": {"enum": ["France", "Peru"]},
                "depth": {"type": "integer", "minimum": 0, "maximum": 9},
            },
            "required": ["country", "depth"],
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as found:
        yield found


def ask(client: openai.OpenAI, **settings: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "instruct", "messages": ASKED, "max_tokens": 24, "seed": 5, **settings}
    )


def together(stream: Any, index: int = 0) -> tuple[str, str | None, list[Any]]:
    """Text, finish reason and log-probs of a streamed choice."""
    text, reason, logprobs = "", None, []
    for chunk in stream:
        for choice in chunk.choices:
            if choice.index == index:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
                logprobs += choice.logprobs.content if choice.logprobs else []
    return text, reason, logprobs


def test_models_are_listed_and_found_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["instruct", "base"]
    assert client.models.retrieve("base").id == "base"
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("nobody")
    assert refused.value.code == "model_not_found"


def test_a_seed_decides_the_reply_alone_and_among_others(client: openai.OpenAI) -> None:
    alone = ask(client).choices[0].message.content
    several = [choice.message.content for choice in ask(client, n=4).choices]
    assert several[0] == alone
    assert len(set(several)) == 4
    assert ask(client, seed=6).choices[0].message.content != alone
    assert ask(client, seed=-6).choices[0].message.content == ask(client, seed=-6).choices[0].message.content
    assert ask(client, temperature=0).choices[0] == ask(client, temperature=0, seed=9).choices[0]


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = ask(client, n=3, logprobs=True, top_logprobs=2)
    for index, choice in enumerate(whole.choices):
        text, reason, logprobs = together(ask(client, n=3, logprobs=True, top_logprobs=2, stream=True), index)
        assert (text, reason) == (choice.message.content, choice.finish_reason)
        assert [entry.token for entry in logprobs] == [entry.token for entry in choice.logprobs.content]


def test_a_stream_begins_with_the_role_and_ends_with_usage_only_when_asked(client: openai.OpenAI) -> None:
    plain = list(ask(client, stream=True))
    assert plain[0].choices[0].delta.role == "assistant"
    assert [bool(chunk.choices[0].finish_reason) for chunk in plain] == [False] * (len(plain) - 1) + [True]
    assert all(chunk.usage is None and chunk.choices and chunk.id == plain[0].id for chunk in plain)
    counted = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert counted[-1].choices == []
    assert counted[-1].usage == ask(client).usage
    assert counted[-1].usage.total_tokens == counted[-1].usage.prompt_tokens + counted[-1].usage.completion_tokens


def test_a_reply_ends_before_a_stop_string_wherever_tokens_end(client: openai.OpenAI) -> None:
    whole = ask(client, logprobs=True)
    text = whole.choices[0].message.content
    first = len(whole.choices[0].logprobs.content[0].token)
    stops = {text[first - 1 : first + 1], text[5:12], text[-3:], text[8:9]}
    for stop in stops:
        cut = text[: text.index(stop)]
        answer = ask(client, stop=stop, logprobs=True).choices[0]
        assert (answer.message.content, answer.finish_reason) == (cut, "stop")
        assert len(answer.logprobs.content) <= len(whole.choices[0].logprobs.content)
        assert together(ask(client, stop=["never so", stop], stream=True))[:2] == (cut, "stop")


def test_log_probs_are_those_of_a_forward_pass(client: openai.OpenAI) -> None:
    tokenizer, model = (
        tiny.tokenizer(),
        tiny.model(0, vocab_size=tiny.tokenizer().vocab_size, max_position_embeddings=CONTEXT),
    )
    for temperature in (0.0, 0.7, 1.0):
        entries = ask(client, logprobs=True, top_logprobs=3, temperature=temperature).choices[0].logprobs.content
        prompt = prompt_ids(tokenizer, ASKED)
        names = [token_text(tokenizer, token_id) for token_id in range(tokenizer.vocab_size)]
        reply = [names.index(entry.token) for entry in entries]
        with torch.no_grad():
            expected = model(torch.tensor([[*prompt, *reply]])).log_softmax(-1)[0, len(prompt) - 1 : -1]
        for entry, token_id, row in zip(entries, reply, expected, strict=True):
            assert entry.logprob == pytest.approx(float(row[token_id]), abs=1e-4)
            assert [top.logprob for top in entry.top_logprobs] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)


def test_content_may_be_parts_and_a_name_of_a_special_token_is_text(client: openai.OpenAI) -> None:
    parts: Any = [
        {"role": "user", "content": [{"type": "text", "text": part} for part in ("What is the capital", " of France?")]}
    ]
    assert ask(client, messages=parts).choices[0].message == ask(client).choices[0].message
    told: Any = [{"role": "user", "content": "<|end|>"}]
    assert ask(client, messages=told).usage.prompt_tokens == len(prompt_ids(tiny.tokenizer(), told))
    developer: Any = [{"role": "developer", "content": "Be brief."}, *ASKED]
    system: Any = [{"role": "system", "content": "Be brief."}, *ASKED]
    assert ask(client, messages=developer).choices[0] == ask(client, messages=system).choices[0]


def test_a_required_call_is_made_and_its_result_is_read(client: openai.OpenAI) -> None:
    answer = ask(client, tools=[TOOL], tool_choice="required", max_tokens=300).choices[0]
    (call,) = answer.message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert (answer.finish_reason, answer.message.content, call.function.name) == ("tool_calls", None, "look_up")
    assert arguments["country"] in ("France", "Peru")
    assert 0 <= arguments["depth"] <= 9
    result = {"role": "tool", "tool_call_id": call.id, "content": "Paris"}
    messages = [*ASKED, answer.message.model_dump(exclude_none=True), result]
    after = ask(client, messages=messages, tools=[TOOL])
    calls = [{"type": "function", "function": {"name": "look_up", "arguments": arguments}}]
    told = [*ASKED, {"role": "assistant", "content": "", "tool_calls": calls}, {"role": "tool", "content": "Paris"}]
    assert after.usage.prompt_tokens == len(prompt_ids(tiny.tokenizer(), told, [TOOL]))
    with pytest.raises(openai.BadRequestError, match="no call before it has"):
        ask(client, messages=[*messages[:-1], {**result, "tool_call_id": "call_of_nobody"}], tools=[TOOL])


def test_a_streamed_call_names_itself_first(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "look_up"}}
    whole = ask(client, tools=[TOOL], tool_choice=named, max_tokens=300).choices[0].message.tool_calls[0]
    chunks = list(ask(client, tools=[TOOL], tool_choice=named, max_tokens=300, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (deltas[0].index, deltas[0].function.name, deltas[0].function.arguments) == (0, "look_up", "")
    assert deltas[0].id
    assert "".join(delta.function.arguments for delta in deltas) == whole.function.arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_results_of_tools_are_put_in_the_order_of_the_calls(client: openai.OpenAI) -> None:
    calls = [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": "look_up", "arguments": json.dumps({"country": name, "depth": n})},
        }
        for n, name in enumerate(("France", "Peru"))
    ]  # fmt: skip
    results = [
        {"role": "tool", "tool_call_id": f"call_{n}", "content": city} for n, city in enumerate(("Paris", "Lima"))
    ]
    begin = [*ASKED, {"role": "assistant", "content": None, "tool_calls": calls}]
    answers = [ask(client, messages=[*begin, *order], tools=[TOOL]) for order in (results, results[::-1])]
    assert answers[0].choices[0] == answers[1].choices[0]


def test_a_json_schema_is_followed(client: openai.OpenAI) -> None:
    properties = {"city": {"enum": ["Paris", "Lima"]}, "sure": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": ["city", "sure"], "additionalProperties": False}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    for choice in ask(client, response_format=wanted, n=4, max_tokens=60).choices:
        value = json.loads(choice.message.content)
        assert set(value) == {"city", "sure"}
        assert choice.finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="cannot be honoured") as refused:
        ask(client, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "colour"}}})
    assert refused.value.param.startswith("response_format")


def test_a_bias_and_penalties_change_what_is_drawn(client: openai.OpenAI) -> None:
    biased = ask(client, logit_bias={"40": 100}, max_tokens=5).choices[0].message.content
    assert biased == token_text(tiny.tokenizer(), 40) * 5
    spread = ask(client, logit_bias={"40": 100, "41": 99.5}, presence_penalty=2, max_tokens=4, temperature=0)
    assert spread.choices[0].message.content == "".join(token_text(tiny.tokenizer(), i) for i in (40, 41, 40, 40))


@pytest.mark.parametrize(
    ("settings", "param", "words"),
    [
        ({"model": "base"}, "model", "base model"),
        ({"messages": []}, "messages", ""),
        ({"messages": [{"role": "user", "content": "capital " * 900}]}, "messages", "context"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages[0].role", ""),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "image_url"),
        ({"n": 10**9}, "n", ""),
        ({"n": 0}, "n", ""),
        ({"max_tokens": 0}, "max_tokens", ""),
        ({"max_tokens": -1}, "max_tokens", ""),
        ({"temperature": 3}, "temperature", ""),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", ""),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs"),
        ({"logit_bias": {"100000": 1}}, "logit_bias", "no token"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "other"}}}, "tool_choice", "names no tool"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0]", "name"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format", "tools"),
        ({"response_format": {"type": "xml"}}, "response_format", "xml"),
        ({"functions": [{"name": "f"}]}, "functions", "tools"),
        ({"modalities": ["text", "audio"]}, "audio", ""),
        ({"metadata": {"k" * 65: "v"}}, None, ""),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_and_named(
    client: openai.OpenAI, settings: dict[str, Any], param: str | None, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **settings)
    assert words in refused.value.message
    assert refused.value.type == "invalid_request_error"
    assert param is None or refused.value.param == param
    assert refused.value.response.headers["x-request-id"]


def test_a_long_prompt_is_told_by_its_code_and_a_reply_ends_with_the_context(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, messages=[{"role": "user", "content": "capital " * 900}])
    assert refused.value.code == "context_length_exceeded"
    full = ask(client, max_tokens=10**9, logit_bias={"40": 100})
    assert full.usage.total_tokens == CONTEXT
    assert full.choices[0].finish_reason == "length"
