"""Events between the thread that decodes and the loop: nothing is lost, nothing turned round, ends do not wait."""

from __future__ import annotations

import asyncio
import threading

from tutelage.generation.request import Reply
from tutelage.serve.events import Event, Events, Token, tell_all


def test_what_a_thread_puts_comes_in_its_order_and_in_fewer_bursts() -> None:
    count = 3000

    async def heard() -> list[list[tuple[int, Event]]]:
        events = Events(asyncio.get_running_loop())

        def draw() -> None:
            for number in range(count):
                if events.put(0, Token(number, 0.0, [])):
                    tell_all([events])
            events.put(0, Reply())
            tell_all([events])

        thread = threading.Thread(target=draw)
        thread.start()
        bursts: list[list[tuple[int, Event]]] = []
        while not (bursts and isinstance(bursts[-1][-1][1], Reply)):
            bursts.append(await events.next())
        thread.join()
        return bursts

    bursts = asyncio.run(heard())
    told = [event for burst in bursts for _, event in burst]
    assert [event.id for event in told if isinstance(event, Token)] == list(range(count))
    assert isinstance(told[-1], Reply)
    assert len(bursts) < count


def test_a_token_is_told_though_nothing_follows() -> None:
    async def heard() -> list[int]:
        events = Events(asyncio.get_running_loop())
        found: list[int] = []
        for number in (1, 2):
            if events.put(0, Token(number, 0.0, [])):
                tell_all([events])
            if number == 1:
                found += [event.id for _, event in await events.next() if isinstance(event, Token)]
        return found + [event.id for _, event in await events.next() if isinstance(event, Token)]

    assert asyncio.run(heard()) == [1, 2]
