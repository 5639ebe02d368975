"""What clients send, as what models read: messages and texts to token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.data.completions import prompt_ids
from tutelage.errors import DataError
from tutelage.generation.guidance import calls_schema
from tutelage.serve.models import Served
from tutelage.serve.protocol import ChatBody, CompletionBody, Message
from tutelage.serve.refusal import INVALID, RefusalError, invalid
from tutelage.serve.saying import Offer
from tutelage.serve.steering import schema_grammar
from tutelage.tools.calls import call_of
from tutelage.tools.toolbox import NAME


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates take them: text contents, results of tools in the order of their calls."""
    found = [_plain(message, place) for place, message in enumerate(messages)]
    start = 0
    while start < len(found):
        end = start + 1
        if found[start].get("tool_calls"):
            while end < len(found) and found[end]["role"] == "tool":
                end += 1
            found[start + 1 : end] = _in_order(found[start]["tool_calls"], found[start + 1 : end], start + 1)
        start = end
    return found


def chat_prompt(served: Served, body: ChatBody) -> tuple[list[dict[str, Any]], list[int]]:
    """The messages and their ids, up to where the reply begins. RefusalError for a base model."""
    require_chat(served)
    messages = plain_messages(body.messages)
    offered = offer_of(body).tools
    ids = prompt_ids(served.tokenizer, without_ids(messages), list(offered) or None)
    check_length(served, ids, "messages")
    return messages, ids


def require_chat(served: Served) -> None:
    """RefusalError 400 for a model that was never taught to answer."""
    if not served.chats:
        why = "is a base model: it was pretrained, but never taught to answer"
        raise invalid(
            f"{served.name} {why if served.place.is_base else 'has no chat template'}; use /v1/completions, or a model "
            "that was fine-tuned on conversations",
            "model",
            "base_model",
        )


def text_prompts(served: Served, body: CompletionBody) -> list[tuple[list[int], int]]:
    """Every prompt's ids, and how many of the first were put there: a text begins a document, ids stay as they are."""
    prompts = body.prompt if isinstance(body.prompt, list) else [body.prompt]
    if prompts and isinstance(prompts[0], int):
        prompts = [prompts]
    if not prompts:
        raise invalid("prompt is an empty list", "prompt")
    found: list[tuple[list[int], int]] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            found.append((served.speaker.document(prompt), 1))
        else:
            assert isinstance(prompt, list)
            _check_ids(served, prompt, "prompt")
            found.append((prompt, 0))
        check_length(served, found[-1][0], "prompt", room=0 if body.echo and body.max_tokens == 0 else 1)
    return found


def _check_ids(served: Served, ids: Sequence[int], param: str) -> None:
    size = served.speaker.engine.config.vocab_size
    if not ids:
        raise invalid(f"{param} has no tokens", param)
    if max(ids) >= size:
        raise invalid(f"{param}: there is no token {max(ids)}; {served.name} has {size}", param)


def check_length(served: Served, ids: Sequence[int], param: str, room: int = 1) -> None:
    """RefusalError 400 for a prompt that leaves no room for a reply."""
    if len(ids) + room > served.context:
        raise RefusalError(
            400,
            f"the prompt has {len(ids)} tokens; the context of {served.name} is {served.context}, reply included",
            kind=INVALID,
            param=param,
            code="context_length_exceeded",
        )


def offer_of(body: ChatBody) -> Offer:
    """The tools that may be called. RefusalError for what is no definition."""
    if not body.tools or body.tool_choice == "none":
        return Offer()
    for place, tool in enumerate(body.tools):
        given = tool.get("function")
        function = given if isinstance(given, dict) else {}
        name = function.get("name")
        if tool.get("type", "function") != "function" or not isinstance(name, str) or not NAME.fullmatch(name):
            raise invalid(f"tools[{place}] is no function with a name of letters, digits, _ . -", f"tools[{place}]")
        if not isinstance(function.get("parameters") or {}, dict):
            raise invalid(f"tools[{place}]: parameters are no JSON Schema", f"tools[{place}].function.parameters")
    return Offer(body.tools, one_call=not body.parallel_tool_calls)


def call_grammar(served: Served, body: ChatBody) -> str | None:
    """The grammar of a reply that must call, where `tool_choice` says so; None where it may."""
    choice = body.tool_choice
    if choice in (None, "auto", "none"):
        return None
    offered = [tool["function"] for tool in offer_of(body).tools]
    if isinstance(choice, dict):
        function = choice.get("function")
        wanted = function.get("name") if isinstance(function, dict) else None
        offered = [function for function in offered if function["name"] == wanted]
    elif choice != "required":
        raise invalid(f"tool_choice is {choice!r:.80}; known: none, auto, required, or a function", "tool_choice")
    if not offered:
        raise invalid("tool_choice names no tool among `tools`", "tool_choice")
    if served.tokenizer.begin_call_id is None:
        raise invalid(f"tool_choice cannot be honoured: {served.name} writes calls as text; use auto", "tool_choice")
    schema = calls_schema(offered)
    schema_grammar(schema, "tools")  # what is wrong with it is said of the tools
    return f"start: <[{served.tokenizer.begin_call_id}]> call\ncall: %json {json.dumps(schema)}"


def _plain(message: Message, place: int) -> dict[str, Any]:
    where = f"messages[{place}]"
    content = message.content
    if isinstance(content, list):
        for part in content:
            if part.type not in ("text", "refusal"):
                raise invalid(f"{where}: {part.type!r:.40} is not read here, only text", f"{where}.content")
        content = "".join(part.text for part in content)
    if content is None and message.role != "assistant":
        raise invalid(f"{where} has no content", f"{where}.content")
    role = "system" if message.role == "developer" else message.role
    plain: dict[str, Any] = {"role": role, "content": content or ""}
    if message.tool_calls:
        if role != "assistant":
            raise invalid(f"{where}: only the assistant calls tools", f"{where}.tool_calls")
        try:
            plain["tool_calls"] = [call_of(call).to_json() for call in message.tool_calls]
        except DataError as error:
            raise invalid(f"{where}: {error.message}", f"{where}.tool_calls") from error
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _in_order(calls: Sequence[Mapping[str, Any]], results: list[dict[str, Any]], place: int) -> list[dict[str, Any]]:
    """Results as the calls were made, since templates write no ids; all or none have one."""
    order = {call["id"]: number for number, call in enumerate(calls) if call.get("id")}
    for number, result in enumerate(results):
        if result.get("tool_call_id") is not None and order and result["tool_call_id"] not in order:
            where = f"messages[{place + number}].tool_call_id"
            raise invalid(f"{where} is {result['tool_call_id']!r:.80}, which no call before it has", where)
    return sorted(results, key=lambda result: order.get(result.get("tool_call_id", ""), len(order)))


def without_ids(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As templates know them: what a result belongs to is told by its place."""
    return [{key: value for key, value in message.items() if key != "tool_call_id"} for message in messages]
