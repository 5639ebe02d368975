"""Clients of a server: so many at once, each asking again when it is answered, and what that cost the server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

START_SECONDS = 300.0


@dataclass
class Cost:
    """What some requests cost: seconds by the clock, seconds of the server's processor time, and what came back."""

    wall: float
    processor: float
    texts: list[str]
    tokens: int
    first_tokens: list[float] = field(default_factory=list)  # seconds to each reply's first token, when streamed

    def seconds(self, threads: int) -> float:
        """Processor time with one thread, as other programs may share the cores; else the clock."""
        return self.processor if threads == 1 else self.wall


@dataclass(frozen=True)
class Place:
    """A server that runs, and its process."""

    url: str
    model: str
    pid: int


@contextmanager
def started(command: Sequence[str], model: str, environment: Mapping[str, str]) -> Iterator[Place]:
    """Run a server (its command ends with the port) until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command, str(port)], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    try:
        url, end = f"http://127.0.0.1:{port}/v1", time.monotonic() + START_SECONDS
        while not _answers(f"{url}/models"):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{' '.join(command)} did not begin to serve")
            time.sleep(0.2)
        yield Place(url, model, process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def processor_seconds(pid: int) -> float:
    """What a process has used so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """What a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


@dataclass
class Answer:
    """What came back: the text, how many tokens it is, and seconds to the first of them, when streamed."""

    text: str
    tokens: int
    first: float | None


class Line:
    """A connection that is kept, with as little work as possible: the client is not what is measured."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._ends: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: Mapping[str, Any]) -> Answer:
        """POST to `/completions`, or to `/chat/completions` if there are messages."""
        reader, writer = self._ends = self._ends or await asyncio.open_connection(
            self._address.hostname, self._address.port, limit=1 << 24
        )
        data, path = json.dumps(body).encode(), "chat/completions" if "messages" in body else "completions"
        head = f"POST {self._address.path}/{path} HTTP/1.1\r\nHost: {self._address.netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        began = time.perf_counter()
        writer.write(head.encode() + data)
        said = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: *(\d+)", said)
        if not said.startswith(b"http/1.1 200"):
            raise SystemExit(f"{self._address.netloc} refuses: {said!r} {await reader.read(2000)!r}")
        if length:
            answer = json.loads(await reader.readexactly(int(length[1])))
            return Answer(_text(answer), answer["usage"]["completion_tokens"], None)
        pieces, first = [], None
        while (size := int(await reader.readline(), 16)) > 0:
            pieces.append((await reader.readexactly(size + 2))[:-2])
            if first is None and b'"role"' not in pieces[-1]:
                first = time.perf_counter() - began
        await reader.readline()
        events = [json.loads(line[6:]) for line in b"".join(pieces).splitlines() if line.startswith(b"data: {")]
        if failed := [event for event in events if "error" in event]:
            raise SystemExit(f"a stream failed: {failed[0]}")
        counted = [event["usage"]["completion_tokens"] for event in events if event.get("usage")]
        return Answer("".join(map(_text, events)), counted[-1] if counted else len(events), first)

    def close(self) -> None:
        """Hang up."""
        if self._ends is not None:
            self._ends[1].close()


def _text(answer: Mapping[str, Any]) -> str:
    if not answer["choices"]:
        return ""
    choice = answer["choices"][0]
    return str(choice["text"] if "text" in choice else choice.get("delta", choice.get("message")).get("content") or "")


def asked(place: Place, prompts: Sequence[Any], new: int, clients: int, streams: bool = False) -> Cost:
    """Every prompt asked once, greedily, by `clients` at once."""
    plainly = {
        "temperature": 0,
        "repeat_penalty": 1.0,
    }  # llama.cpp's server has 1.1 unless told; others know no such field
    bodies = [bodied(place, prompt, new, streams) | plainly for prompt in prompts]
    found: dict[int, Answer] = {}
    waiting = iter(enumerate(bodies))

    async def one_client(line: Line) -> None:
        for number, body in waiting:
            found[number] = await line.ask(body)

    before, began = processor_seconds(place.pid), time.perf_counter()
    asyncio.run(_all(place, clients, one_client))
    wall, used = time.perf_counter() - began, processor_seconds(place.pid) - before
    answers = [found[number] for number in range(len(prompts))]
    firsts = [answer.first for answer in answers if answer.first is not None]
    return Cost(wall, used, [one.text for one in answers], sum(one.tokens for one in answers), firsts)


def bodied(place: Place, prompt: Any, new: int, streams: bool) -> dict[str, Any]:
    """A request: of a text, of ids, or of messages."""
    is_chat = isinstance(prompt, list) and isinstance(prompt[0], dict)
    told = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}
    return {"model": place.model, "messages" if is_chat else "prompt": prompt, "max_tokens": new, **told}


@dataclass
class Crowd:
    """What each of many clients got, and seconds to the first tokens of every reply."""

    tokens: list[int]
    replies: list[int]
    first_tokens: list[float] = field(default_factory=list)

    @property
    def fairness(self) -> float:
        """Tokens of the client that got fewest, as a share of the median."""
        return min(self.tokens) / statistics.median(self.tokens)


def crowded(place: Place, prompt: Any, new: int, clients: int, enough: Callable[[Crowd], bool]) -> Crowd:
    """Clients that stream reply after reply until it is `enough`; what is under way then is not counted."""
    crowd = Crowd([0] * clients, [0] * clients)
    numbers = iter(range(clients))

    async def one_client(line: Line) -> None:
        number, seed = next(numbers), 0
        while not enough(crowd):
            seed += 1
            answer = await line.ask({**bodied(place, prompt, new, streams=True), "seed": number + clients * seed})
            if not enough(crowd):
                crowd.tokens[number] += answer.tokens
                crowd.replies[number] += 1
                crowd.first_tokens += [] if answer.first is None else [answer.first]

    asyncio.run(_all(place, clients, one_client))
    return crowd


async def _all(place: Place, clients: int, one_client: Callable[[Line], Awaitable[None]]) -> None:
    lines = [Line(place.url) for _ in range(clients)]
    try:
        await asyncio.gather(*map(one_client, lines))
    finally:
        for line in lines:
            line.close()


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """The middle and the slowest of times."""
    return {"median": round(statistics.median(seconds), 4), "slowest": round(max(seconds), 4)}
