"""What becomes of requests, on its way from the thread that decodes to the loop that answers, in bursts.

A model that draws faster than people read would otherwise wake the loop, and write to a client, for every token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from tutelage.generation.request import Reply, Tops

BURST_SECONDS = 1 / 20  # tokens of a reply go out together, so often at most; the first and the last do not wait


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply, as it is drawn."""

    id: int
    logprob: float
    tops: Tops


Event = Token | Reply | Exception


class Events:
    """Events of what was submitted together, by the numbers of the requests; the last of a number is no Token."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._held: list[tuple[int, Event]] = []  # the thread appends, the loop takes away
        self._bursts: asyncio.Queue[list[tuple[int, Event]]] = asyncio.Queue()
        self._waits = False  # for the next burst: what is put now goes with it
        self._timer: asyncio.TimerHandle | None = None

    async def next(self) -> list[tuple[int, Event]]:
        """The next burst, in the order of events."""
        return await self._bursts.get()

    def put(self, number: int, event: Event) -> bool:
        """From any thread; whether it has to be told at once."""
        self._held.append((number, event))
        return not (self._waits and isinstance(event, Token))

    def tell(self) -> None:
        """In the loop: all that is held is a burst, and the next comes later."""
        self._waits = False  # before looking: what is put after that is told by whoever puts it
        if self._timer is not None:
            self._timer.cancel()
        count = len(self._held)
        if count:
            self._bursts.put_nowait(self._held[:count])
            del self._held[:count]
            self._waits = True
            self._timer = self.loop.call_later(BURST_SECONDS, self.tell)


def tell_all(told: Iterable[Events]) -> None:
    """From any thread: wake each loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, set[Events]] = {}
    for events in told:
        by_loop.setdefault(events.loop, set()).add(events)
    for loop, some in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell, some)


def _tell(some: Iterable[Events]) -> None:
    for events in some:
        events.tell()
