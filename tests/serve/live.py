"""A real server over real HTTP, with a tiny instruct model and a tiny base model."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

import tiny
from tutelage.serve.app import build_app
from tutelage.serve.keys import Keys
from tutelage.serve.models import Limits, Models
from tutelage.serve.running import Address, server_of
from tutelage.store.engine import Store, opened
from tutelage.talk.speaker import Place

CONTEXT = 800
COMMAND = "import sys; from tutelage.cli import main; sys.argv[0] = 'tutelage'; main()"
PLENTY = Limits()


@dataclass
class Running:
    """A server that listens."""

    port: int
    models: Models
    store: Store | None
    stop: Callable[[], None]
    key: str = ""  # that clients are to give, where keys are asked for

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def busy(self, name: str = "instruct") -> int:
        return self.models.get(name).worker.num_busy

    def until(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for something that another thread does."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.005)


def make_models(folder: Path) -> list[tuple[str, Place]]:
    for number, name in enumerate(("instruct", "base")):
        tiny.model_artifact(folder / name, number, max_position_embeddings=CONTEXT)
    return [("instruct", Place(folder / "instruct", "sft")), ("base", Place(folder / "base", "pretrain"))]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(
    folder: Path,
    limits: Limits = PLENTY,
    keys: Keys | None = None,
    store: str | None = None,
    models: bool = True,
    loaded: bool = True,
    grace: float = 30.0,
    **options: Any,
) -> Iterator[Running]:
    """Serve on a free port until the end of the block."""
    with ExitStack() as stack:
        database = stack.enter_context(opened(store or f"sqlite:///{folder / 'store.sqlite'}"))
        found = Models(make_models(folder) if models else [], limits, loaded)
        app = build_app(found, database, keys, **options)
        port, stop = stack.enter_context(listening(app, found.stop, grace))
        yield Running(port, found, database, stop)


@contextmanager
def listening(
    app: ASGIApp, stopped: Callable[[], None] = lambda: None, grace: float = 30.0
) -> Iterator[tuple[int, Callable[[], None]]]:
    """A server of any app on a free port, until the end of the block: its port, and what makes it end earlier."""
    port = free_port()
    server = server_of(app, Address(port=port), stop=stopped, grace=grace)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield port, lambda: setattr(server, "should_exit", True)
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def serve(model: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """`tutelage serve` in a process of its own, killed at the end of the block if it runs then."""
    arguments = [sys.executable, "-c", COMMAND, "serve", str(model), "--store", "none", "--port", str(port)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(client: httpx2.Client, process: subprocess.Popen[str]) -> set[int]:
    """Until it serves; the statuses that it answered with."""
    seen: set[int] = set()
    while 200 not in seen:
        assert process.poll() is None
        with suppress(httpx2.TransportError):
            seen.add(client.get("/models").status_code)
        time.sleep(0.01)
    return seen
