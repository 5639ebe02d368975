"""One model's thread: it decodes what is asked, lets more in at any step, and hears when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tutelage.generation.decoding import Decoding
from tutelage.generation.engine import Engine
from tutelage.generation.request import Request
from tutelage.serve.events import Events, Token, tell_all
from tutelage.serve.refusal import RefusalError, unavailable


class Turns:
    """Whoever asked first goes first: models decode step by step in turn, as threads that fight for cores are slow."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._asked = self._served = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until all who asked before have had theirs."""
        with self._condition:
            number, self._asked = self._asked, self._asked + 1
            self._condition.wait_for(lambda: self._served == number)
        try:
            yield
        finally:
            with self._condition:
                self._served += 1
                self._condition.notify_all()


@dataclass(eq=False)
class Ticket:
    """A request on its way. `streams`: its tokens are told, too; `events` is shared by what was submitted together."""

    request: Request
    streams: bool
    events: Events
    number: int = -1


class Worker:
    """A thread with an engine and two queues: of requests, `max_waiting` at most without a slot, and of other work."""

    def __init__(self, engine: Engine, num_slots: int, max_waiting: int, turns: Turns, capacity: int | None = None):
        self._engine, self.num_slots, self.max_waiting, self._turns = engine, num_slots, max_waiting, turns
        self._open: Callable[[], Decoding] = lambda: engine.decoding(num_slots, capacity)
        self._changed = threading.Condition()
        self._orders: deque[Callable[[], None]] = deque()
        self._decoding = self._open()
        self._under_way: dict[int, Ticket] = {}
        self._admitted = 0  # tickets that are not over, whether or not they have a slot
        self._numbers = 0
        self.num_drawn = 0  # tokens, since it began
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    @property
    def num_busy(self) -> int:
        """Requests in slots."""
        return self._decoding.num_busy

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a slot."""
        return max(0, self._admitted - self.num_slots)

    def submit(self, requests: list[Request], streams: bool = False) -> list[Ticket]:
        """Ask for replies, all or none. DataError for what cannot be decoded, RefusalError when the queue is full."""
        for number, request in enumerate(requests):
            self._engine.check(request, number)
        events = Events(asyncio.get_running_loop())
        tickets = [Ticket(request, streams, events) for request in requests]
        with self._changed:
            self._admit(len(tickets))
            for ticket in tickets:
                ticket.number, self._numbers = self._numbers, self._numbers + 1
                self._orders.append(partial(self._begin, ticket))
            self._changed.notify()
        return tickets

    def cancel(self, ticket: Ticket) -> None:
        """Nobody listens any more: its slot goes to the next. Nothing happens if it is over."""
        self._order(lambda: self._end(ticket))

    async def call(self, work: Callable[[], Any]) -> Any:
        """Do other work with the model between two steps; counts as a request."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._changed:
            self._admit(1)
            self._orders.append(lambda: self._work(work, future, loop))
            self._changed.notify()
        return await future

    def stop(self) -> None:
        """End the thread; what is under way ends with an error."""
        self._stopping = True
        self._order(lambda: None)
        self._thread.join()

    def _admit(self, count: int) -> None:
        if self._stopping:
            raise unavailable("the server is shutting down", "shutting_down")
        if self._admitted + count > self.num_slots + self.max_waiting:
            raise RefusalError(
                429,
                f"the queue is full: {self._admitted} requests are under way, and {self.max_waiting} may wait",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": "1"},
            )
        self._admitted += count

    def _order(self, order: Callable[[], None]) -> None:
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    # all below runs in the thread

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._orders or self._decoding.is_busy)
                orders, self._orders = self._orders, deque()
            for order in orders:
                order()
            if self._decoding.is_busy:
                self._step()
        while self._orders:
            self._orders.popleft()()
        self._fail(unavailable("the server is shutting down", "shutting_down"))

    def _begin(self, ticket: Ticket) -> None:
        self._under_way[ticket.number] = ticket
        self._decoding.add(ticket.number, ticket.request)

    def _end(self, ticket: Ticket) -> None:
        if self._under_way.pop(ticket.number, None) is not None:
            self._decoding.cancel(ticket.number)
            self._give_back()

    def _give_back(self) -> None:
        with self._changed:
            self._admitted -= 1

    def _work(self, work: Callable[[], Any], future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        value: Any = None
        error: Exception | None = None
        try:
            with self._turns.turn():
                value = None if future.cancelled() else work()
        except Exception as problem:
            error = problem
        self._give_back()
        _tell(loop, lambda: _settle(future, value, error))

    def _step(self) -> None:
        try:
            with self._turns.turn():
                drawn = self._decoding.step()
        except Exception as error:  # of this step: those in it are told, and the next begin anew
            self._fail(error)
            self._decoding = self._open()
            return
        self.num_drawn += len(drawn.indices)
        told: list[Events] = []
        columns = drawn.indices, drawn.tokens_N.tolist(), drawn.logprobs_N.tolist()
        for number, token, logprob in zip(*columns, strict=True):
            ticket = self._under_way[number]
            if ticket.streams and ticket.events.put(number, Token(token, logprob, drawn.tops.get(number, []))):
                told.append(ticket.events)
        for number, reply in drawn.ended.items():
            ticket = self._under_way.pop(number)
            self._give_back()
            ticket.events.put(number, reply)
            told.append(ticket.events)
        tell_all(told)

    def _fail(self, error: Exception) -> None:
        for ticket in self._under_way.values():
            ticket.events.put(ticket.number, error)
            self._give_back()
        tell_all(ticket.events for ticket in self._under_way.values())
        self._under_way.clear()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(what)


def _settle(future: asyncio.Future[Any], value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
