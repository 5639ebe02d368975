"""POST /v1/chat/completions: a conversation in, replies out, whole or as they are drawn."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tutelage.generation.request import Reply, Request
from tutelage.serve.answering import Mould, cancel, whole
from tutelage.serve.drawing import requests_of
from tutelage.serve.events import Token
from tutelage.serve.logprobs import chat_logprobs, tokens_of, visible_tokens
from tutelage.serve.models import Served
from tutelage.serve.prompts import call_grammar, chat_prompt, offer_of
from tutelage.serve.protocol import ChatBody
from tutelage.serve.refusal import invalid
from tutelage.serve.saying import Offer, Pieces, Said, plain_text, read
from tutelage.serve.steering import format_grammar
from tutelage.serve.worker import Ticket

Keep = Callable[[Mapping[str, Any]], None]


@dataclass
class Chat:
    """One request on its way."""

    served: Served
    body: ChatBody
    messages: list[dict[str, Any]]
    num_prompt: int
    offer: Offer
    requests: list[Request]
    tickets: list[Ticket] = field(default_factory=list)
    id: str = field(default_factory=lambda: new_id("chatcmpl"))
    created: int = field(default_factory=lambda: int(time.time()))

    def start(self) -> None:
        """Hand it to the engine."""
        self.tickets = self.served.worker.submit(self.requests, streams=self.body.stream)

    def head(self, kind: str) -> dict[str, Any]:
        """What all objects of this answer begin with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.served.name}

    def usage(self, num_completion: int) -> dict[str, int]:
        """Tokens of the prompt, counted once, and of all replies."""
        return usage(self.num_prompt, num_completion)

    def completion(self, replies: Sequence[Reply]) -> dict[str, Any]:
        """The answer as one object."""
        choices = [self._choice(index, reply) for index, reply in enumerate(replies)]
        tokens = sum(len(reply.ids) for reply in replies)
        return {**self.head("chat.completion"), "choices": choices, "usage": self.usage(tokens)}

    def _choice(self, index: int, reply: Reply) -> dict[str, Any]:
        said = read(self.served.tokenizer, reply, self.offer)
        tokens = visible_tokens(self.served.tokenizer, tokens_of(reply), plain_text(self.served.tokenizer, reply))
        return {
            "index": index,
            "message": said.message,
            "logprobs": self.logprobs(tokens),
            "finish_reason": said.finish_reason,
        }

    def logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        """Of some tokens, where they are asked for."""
        if not self.body.logprobs:
            return None
        return chat_logprobs(self.served.tokenizer, tokens, self.body.top_logprobs or 0)


def new_id(prefix: str) -> str:
    """Ids that rise with time, so that those of one second have an order."""
    return f"{prefix}-{time.time_ns():016x}{secrets.token_hex(6)}"


def usage(num_prompt: int, num_completion: int) -> dict[str, int]:
    """Counts of tokens."""
    total = num_prompt + num_completion
    return {"prompt_tokens": num_prompt, "completion_tokens": num_completion, "total_tokens": total}


def prepare(served: Served, body: ChatBody) -> Chat:
    """Check a request; it is not started. RefusalError for what cannot be honoured."""
    _check(body)
    messages, ids = chat_prompt(served, body)
    grammar, param = format_grammar(body.response_format or {"type": "text"}), "response_format"
    calls = call_grammar(served, body)
    if calls is not None and grammar is not None:
        raise invalid("response_format and a required tool call exclude each other", "response_format")
    if grammar is not None and offer_of(body).tools:
        raise invalid("response_format would rule out every tool call: leave out `tools` or it", "response_format")
    if calls is not None:
        grammar, param = calls, "tools"
    num_tops = (body.top_logprobs or 0) if body.logprobs else None
    max_tokens = body.max_completion_tokens or body.max_tokens or served.context
    offer = offer_of(body)
    requests = requests_of(served, body, [ids], max_tokens, num_tops, grammar, param, offer.tools)
    return Chat(served, body, messages, len(ids), offer, requests)


def _check(body: ChatBody) -> None:
    """RefusalError for fields that mean something and cannot be honoured."""
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs needs logprobs: true", "top_logprobs")
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise invalid("max_tokens and max_completion_tokens differ: give one of them", "max_tokens")
    refused = {
        "audio": body.audio is not None or bool(set(body.modalities or []) - {"text"}),
        "functions": bool(body.functions) or body.function_call is not None,
        "web_search_options": body.web_search_options is not None,
        "reasoning_effort": body.reasoning_effort not in (None, "none"),
    }
    hints = {"functions": "use `tools` and `tool_choice`"}
    for name, is_refused in refused.items():
        if is_refused:
            raise invalid(f"{name} cannot be honoured; {hints.get(name, 'leave it out')}", name)
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options needs stream: true", "stream_options")


async def answer(chat: Chat) -> dict[str, Any]:
    """The whole answer."""
    return chat.completion(await whole(chat.served.worker, chat.tickets))


async def stream(chat: Chat, keep: Keep | None) -> AsyncGenerator[dict[str, Any] | str]:
    """The answer as chunks; `keep` gets the whole one before the last chunk."""
    includes_usage = chat.body.stream_options is not None and chat.body.stream_options.include_usage
    told = {"usage": None} if includes_usage else {}

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None, logprobs: Any = None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**chat.head("chat.completion.chunk"), "choices": [choice], **told}

    def said_piece(index: int, text: str) -> dict[str, Any]:
        return chunk(index, {"content": text})

    replies: dict[int, Reply] = {}
    moulds = [Mould(partial(said_piece, index)) for index in range(len(chat.tickets))]
    pieces = [Pieces(chat.served.tokenizer, chat.body.stops, chat.offer) for _ in chat.tickets]
    held: list[list[Token]] = [[] for _ in chat.tickets]
    try:
        for index in range(len(chat.tickets)):
            yield chunk(index, {"role": "assistant", "content": ""})
        async for index, event in merged(chat.tickets):
            if isinstance(event, list):
                piece, count = pieces[index].push_all([token.id for token in event])
                count += len(held[index]) if count else 0
                held[index] += event
                if piece and chat.body.logprobs:
                    yield chunk(index, {"content": piece}, logprobs=chat.logprobs(held[index][:count]))
                elif piece:
                    yield moulds[index].fill(piece)
                del held[index][:count]
                continue
            replies[index] = event
            said = read(chat.served.tokenizer, event, chat.offer)
            rest, left = pieces[index].finish(said.text), _left(chat, event, held[index])
            if rest or (left and chat.body.logprobs):
                yield chunk(index, {"content": rest}, logprobs=chat.logprobs(left))
            for delta in call_deltas(said):
                yield chunk(index, delta)
            if keep is not None and len(replies) == len(chat.tickets):
                keep(chat.completion([replies[number] for number in range(len(replies))]))
            yield chunk(index, {}, said.finish_reason)
        if includes_usage:
            tokens_drawn = sum(len(reply.ids) for reply in replies.values())
            yield {**chat.head("chat.completion.chunk"), "choices": [], "usage": chat.usage(tokens_drawn)}
    finally:
        cancel(chat.served.worker, chat.tickets)


def _left(chat: Chat, reply: Reply, held: Sequence[Token]) -> list[Token]:
    """Of the tokens not yet told, those that the text is made of."""
    tokenizer = chat.served.tokenizer
    visible = len(visible_tokens(tokenizer, tokens_of(reply), plain_text(tokenizer, reply)))
    return list(held[: max(0, visible - (len(reply.ids) - len(held)))])


def call_deltas(said: Said) -> list[dict[str, Any]]:
    """Calls as a stream has them: id and name first, then the arguments, under one index."""
    deltas = []
    for index, call in enumerate(said.calls):
        named = {"name": call["function"]["name"], "arguments": ""}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": named}]})
        arguments = {"arguments": call["function"]["arguments"]}
        deltas.append({"tool_calls": [{"index": index, "function": arguments}]})
    return deltas


async def merged(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, list[Token] | Reply]]:
    """What becomes of several replies as it comes, until all have ended: tokens that came together are one event."""
    going = len(tickets)
    places = {ticket.number: place for place, ticket in enumerate(tickets)}
    while going:
        tokens: dict[int, list[Token]] = {}
        for number, event in await tickets[0].events.next():
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Token):
                tokens.setdefault(number, []).append(event)
                continue
            if number in tokens:
                yield places[number], tokens.pop(number)
            going -= 1
            yield places[number], event
        for number, some in tokens.items():
            yield places[number], some
