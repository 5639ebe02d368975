"""Answers on their way out: JSON, server-sent events, and an ear for clients that hang up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tutelage.generation.request import Reply
from tutelage.serve.refusal import refusal_of
from tutelage.serve.worker import Ticket, Worker

T = TypeVar("T")
LOG = logging.getLogger("tutelage.serve")
JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Json(JSONResponse):
    """JSON in ASCII: whatever a client or a model wrote, halves of surrogate pairs too, goes through."""

    def render(self, content: Any) -> bytes:
        """See JSONResponse."""
        return JSON.encode(content).encode()


class Mould:
    """JSON that is the same every time but for one string: written once, filled in for every piece of a stream."""

    def __init__(self, make: Callable[[str], Mapping[str, Any]]) -> None:
        mark = secrets.token_hex(16)
        self._before, self._after = JSON.encode(make(mark)).split(JSON.encode(mark))

    def fill(self, text: str) -> str:
        """As `JSON.encode(make(text))`."""
        return self._before + JSON.encode(text) + self._after


class HungUpError(Exception):
    """The client is gone."""


async def unless_gone(request: HttpRequest, work: Awaitable[T]) -> T:
    """What the work gives; HungUpError, and the work is cancelled, when the client is gone before."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUpError
        return working.result()
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def whole(worker: Worker, tickets: Sequence[Ticket]) -> list[Reply]:
    """The replies in the order of the tickets; when this is cancelled, so are they."""
    replies: dict[int, Reply] = {}
    try:
        while len(replies) < len(tickets):
            for number, event in await tickets[0].events.next():
                if isinstance(event, Exception):
                    raise event
                assert isinstance(event, Reply)
                replies[number] = event
        return [replies[ticket.number] for ticket in tickets]
    finally:
        cancel(worker, tickets)


def cancel(worker: Worker, tickets: Sequence[Ticket]) -> None:
    """Nobody listens to these any more."""
    for ticket in tickets:
        worker.cancel(ticket)


class EventStream(Response):
    """Server-sent events: each a line of JSON, given as such or to be written, then `[DONE]`.

    An error on the way is the last event before it.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[dict[str, Any] | str], at_end: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._at_end = events, at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the end, or until the client hangs up: the source is closed then."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        writing = asyncio.ensure_future(self._write(send))
        listening = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((writing, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._at_end()  # a source that never began would not hear that it ends
            for task in (writing, listening):
                task.cancel()
            await asyncio.gather(writing, listening, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        async def line(text: str, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": more})

        try:
            async with contextlib.aclosing(self._events) as events:
                async for event in events:
                    await line(event if isinstance(event, str) else JSON.encode(event))
        except Exception as error:
            if (refusal := refusal_of(error)).status == 500:
                LOG.exception("a stream failed", exc_info=error)
            await line(JSON.encode(refusal.body))
        await line("[DONE]", more=False)
