"""Clients of a server: so many at once, each asking again when it is answered, and what that cost the server."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


def asked(place: Place, prompts: Sequence[Sequence[int]], new: int, clients: int, streams: bool = False) -> Cost:
    """Every prompt asked once, greedily, by `clients` at once."""
    before = processor_seconds(place.pid)
    began = time.perf_counter()
    answers = asyncio.run(_ask_all(place, prompts, new, clients, streams))
    wall = time.perf_counter() - began
    texts, tokens, firsts = zip(*answers, strict=True)
    used = processor_seconds(place.pid) - before
    return Cost(wall, used, list(texts), sum(tokens), [first for first in firsts if first is not None])


async def _ask_all(
    place: Place, prompts: Sequence[Sequence[int]], new: int, clients: int, streams: bool
) -> list[tuple[str, int, float | None]]:
    found: dict[int, tuple[str, int, float | None]] = {}
    waiting = iter(enumerate(prompts))
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(trust_env=False, timeout=None, limits=limits) as client:

        async def one_client() -> None:
            for number, prompt in waiting:
                body = {"model": place.model, "prompt": list(prompt), "max_tokens": new, "temperature": 0}
                found[number] = await (_streamed if streams else _whole)(client, f"{place.url}/completions", body)

        await asyncio.gather(*(one_client() for _ in range(clients)))
    return [found[number] for number in range(len(prompts))]


async def _whole(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> tuple[str, int, float | None]:
    answer = (await client.post(url, json=body)).raise_for_status().json()
    return answer["choices"][0]["text"], answer["usage"]["completion_tokens"], None


async def _streamed(client: httpx2.AsyncClient, url: str, body: dict[str, Any]) -> tuple[str, int, float | None]:
    began, first, pieces = time.perf_counter(), None, 0
    async with client.stream("POST", url, json={**body, "stream": True}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - began
                pieces += 1
    return "", pieces, first


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """The middle and the slowest of times."""
    return {"median": round(statistics.median(seconds), 4), "slowest": round(max(seconds), 4)}
