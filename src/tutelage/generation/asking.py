"""What else a server may be asked: a turn with tools, a text to go on with, how likely texts are.

Not every server does all of it; what one does is tried once, with the smallest request there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import DataError
from tutelage.generation.protocol import choices, texts
from tutelage.generation.remote import Ask
from tutelage.generation.server import Connection, Server
from tutelage.tools.calls import BadCall, ToolCall, call_of


@dataclass(frozen=True)
class ToolAsk:
    """A chat to be answered with one turn, in which the tools may be called."""

    ask: Ask
    tools: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Turn:
    """What the server's model says and calls; `message` is the turn as the server wrote it."""

    text: str
    finish_reason: str
    calls: tuple[ToolCall | BadCall, ...]
    message: Mapping[str, Any]


@dataclass(frozen=True)
class TextAsk:
    """The beginning of a document, to be gone on with greedily."""

    prompt: str
    max_tokens: int
    name: str = ""


@dataclass(frozen=True)
class OptionsAsk:
    """A text with several ways to go on."""

    prompt: str
    options: Sequence[str]
    name: str = ""


@dataclass(frozen=True)
class Offers:
    """Why a server does not chat, go on with a text, or tell log-probs of a text that it is given; "" where it does."""

    chat: str
    text: str
    likelihood: str


async def offers(connection: Connection, name: str) -> Offers:
    """What the server does, found out by one small request of each kind."""
    model = {"model": connection.server.model, "max_tokens": 1, "temperature": 0, "seed": 0}
    message = {"role": "user", "content": "Hello"}
    chat = await connection.offered("chat/completions", {**model, "messages": [message]}, name)
    text = await connection.offered("completions", {**model, "prompt": "Hello"}, name)
    return Offers(_reason(chat), _reason(text), _reason(text) or await _no_likelihood(connection, name))


async def _no_likelihood(connection: Connection, name: str) -> str:
    tokenized = await connection.offered("/tokenize", {"model": connection.server.model, "prompt": "Hello you"}, name)
    if isinstance(tokenized, str):
        return f"/tokenize: {tokenized}"
    ids = tokenized.get("tokens")
    if not isinstance(ids, list) or not all(isinstance(token, int) for token in ids):
        return "/tokenize does not answer with `tokens`"
    echoed = await connection.offered("completions", _echo(connection.server, [ids]), name)
    if isinstance(echoed, str):
        return f"echo: {echoed}"
    try:
        _logprobs(texts(echoed, 1, connection.server)[0], len(ids))
    except DataError as error:
        return error.message
    return ""


def _reason(found: Mapping[str, Any] | str) -> str:
    return found if isinstance(found, str) else ""


async def turn(connection: Connection, ask: ToolAsk) -> Turn:
    """One turn of the assistant, its calls as the server read them; what is no call is a BadCall."""
    payload = {**ask.ask.payload(connection.server.model), "tools": list(ask.tools)}
    body = await connection.post("chat/completions", payload, f"prompt {ask.ask.name}")
    [choice] = choices(body, 1, connection.server)
    message = choice["message"]
    calls = tuple(_call(value) for value in message.get("tool_calls") or [])
    return Turn(message.get("content") or "", choice.get("finish_reason") or "length", calls, message)


def _call(value: Any) -> ToolCall | BadCall:
    try:
        return call_of(value)
    except DataError as error:
        return BadCall(str(value), error.message)


async def continued(connection: Connection, ask: TextAsk) -> tuple[str, str]:
    """The greedy continuation of a text, and why it ended."""
    model = connection.server.model
    payload = {"model": model, "prompt": ask.prompt, "max_tokens": ask.max_tokens, "temperature": 0}
    body = await connection.post("completions", payload, f"prompt {ask.name}")
    [choice] = texts(body, 1, connection.server)
    return choice["text"], choice.get("finish_reason") or "length"


async def likelihoods(connection: Connection, ask: OptionsAsk) -> list[float]:
    """Σ log P of each option's tokens after the prompt as the beginning of a document.

    Prompt and options are tokenised apart, as the evaluation of a model in this process does it.
    """
    name, server = f"item {ask.name}", connection.server
    prompt = await _tokens(connection, ask.prompt, True, name)
    if not prompt:
        raise DataError(
            f"{server.url} puts no token before an empty text: how likely its first token is cannot be asked",
            hint="serve a model whose tokenizer begins documents with a token, or leave such items out",
        )
    options = [await _tokens(connection, option, False, name) for option in ask.options]
    body = await connection.post("completions", _echo(server, [[*prompt, *option] for option in options]), name)
    return [
        sum(_logprobs(choice, len(prompt) + len(option))[len(prompt) :])
        for choice, option in zip(texts(body, len(options), server), options, strict=True)
    ]


def _echo(server: Server, prompts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A server that can leave out the reply may; one token more is drawn, as not all can."""
    return {
        "model": server.model,
        "prompt": [list(ids) for ids in prompts],
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }


async def _tokens(connection: Connection, text: str, begins: bool, name: str) -> list[int]:
    payload = {"model": connection.server.model, "prompt": text, "add_special_tokens": begins}
    ids: list[int] = (await connection.post("/tokenize", payload, name))["tokens"]
    return ids


def _logprobs(choice: Mapping[str, Any], count: int) -> list[float]:
    """Of the first `count` tokens, 0 for the first, which follows nothing. DataError if they are not there."""
    table = choice.get("logprobs")
    found = table.get("token_logprobs") if isinstance(table, dict) else None
    known = isinstance(found, list) and all(isinstance(number, int | float) for number in found[1:count])
    if not isinstance(found, list) or not known or len(found) < count:
        raise DataError(f"echo: no log-prob for each of the {count} tokens given")
    return [0.0, *map(float, found[1:count])]
