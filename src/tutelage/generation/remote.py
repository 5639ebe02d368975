"""The engine elsewhere: a server of the OpenAI protocol (vLLM, or any) replies instead of a model in this process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tutelage.generation.memory import Memory
from tutelage.generation.protocol import choices
from tutelage.generation.sampling import Sampling
from tutelage.generation.server import Connection, Server

A = TypeVar("A")
B = TypeVar("B")
SEEDS = 2**31  # servers take signed, unsigned, short and long seeds: these all can


@dataclass(frozen=True)
class Ask:
    """A chat to be answered `count` times; `seed` is of the whole request. Errors name it by `name`."""

    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling
    seed: int
    count: int = 1
    name: str = ""
    stop_strings: Sequence[str] = ()

    def payload(self, model: str) -> dict[str, Any]:
        """The body of the request; what would change nothing is left out, for a server that does not know it."""
        sampling = self.sampling
        told: dict[str, Any] = {
            "model": model,
            "messages": list(self.messages),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": self.seed % SEEDS,
        }
        more = {
            "n": (self.count, self.count > 1),
            "stop": (list(self.stop_strings), bool(self.stop_strings)),
            "top_p": (sampling.top_p, sampling.top_p < 1),
            "top_k": (sampling.top_k, sampling.top_k > 0),  # this one and the next are vLLM's
            "min_p": (sampling.min_p, sampling.min_p > 0),
        }
        return told | {name: value for name, (value, wanted) in more.items() if wanted}


@dataclass(frozen=True)
class Answer:
    """A reply as text; `num_tokens` is None if the server counted several replies together, or did not count."""

    text: str
    finish_reason: str
    num_tokens: int | None


class RemoteEngine:
    """Asks a server, with a bounded number of requests under way. What a reply is does not depend on the others.

    With a `memory` no request is made twice.
    """

    def __init__(self, server: Server, memory: Memory | None = None) -> None:
        self.server, self._memory = server, memory
        self.repeated: Counter[str] = Counter()  # requests made again, by reason

    def answers(self, asks: Sequence[Ask]) -> Iterator[tuple[int, list[Answer]]]:
        """The number of each request with its answers, as they arrive. Errors are those of `generation.server`."""
        return self.each(asks, _answer)

    def all(self, asks: Sequence[A], put: Callable[[Connection, A], Awaitable[B]]) -> list[B]:
        """What `each` finds, in the order of the requests."""
        found = dict(self.each(asks, put))
        return [found[number] for number in range(len(asks))]

    def each(self, asks: Sequence[A], put: Callable[[Connection, A], Awaitable[B]]) -> Iterator[tuple[int, B]]:
        """The number of each request with what `put` makes of it, as they are done."""
        if not asks:
            return
        with asyncio.Runner() as runner:
            connection = Connection(self.server, self._memory)
            tasks: list[asyncio.Task[None]] = []
            done: asyncio.Queue[tuple[int, B] | Exception] = asyncio.Queue()
            try:
                runner.run(connection.check())
                runner.run(_start(connection, asks, put, done, tasks))
                for _ in asks:
                    found = runner.run(done.get())
                    if isinstance(found, Exception):
                        raise found
                    yield found
            finally:
                self.repeated += connection.repeated
                runner.run(_end(connection, tasks))


async def _start(
    connection: Connection,
    asks: Sequence[A],
    put: Callable[[Connection, A], Awaitable[B]],
    done: asyncio.Queue[tuple[int, B] | Exception],
    tasks: list[asyncio.Task[None]],
) -> None:
    """As many workers as requests may be under way; they share one queue, and what goes wrong is put among the done."""
    waiting = iter(enumerate(asks))

    async def work() -> None:
        for number, ask in waiting:
            try:
                done.put_nowait((number, await put(connection, ask)))
            except Exception as error:
                done.put_nowait(error)
                return

    tasks += [asyncio.create_task(work()) for _ in range(min(connection.server.concurrency, len(asks)))]


async def _end(connection: Connection, tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await connection.close()


async def _answer(connection: Connection, ask: Ask) -> list[Answer]:
    payload = ask.payload(connection.server.model)
    body = await connection.post("chat/completions", payload, f"prompt {ask.name}")
    usage = body.get("usage")
    counted = usage.get("completion_tokens") if isinstance(usage, dict) and ask.count == 1 else None
    return [
        Answer(choice["message"].get("content") or "", choice.get("finish_reason") or "length", counted)
        for choice in choices(body, ask.count, connection.server)
    ]
