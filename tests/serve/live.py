"""A real server over real HTTP, with a tiny instruct model and a tiny base model."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

import tiny
from tutelage.serve.app import build_app
from tutelage.serve.keys import Keys
from tutelage.serve.models import Limits, Models
from tutelage.serve.running import Address, server_of
from tutelage.store.engine import Store, opened
from tutelage.talk.speaker import Place

CONTEXT = 800
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


@contextmanager
def running(
    folder: Path, limits: Limits = PLENTY, keys: Keys | None = None, store: str | None = None, **options: Any
) -> Iterator[Running]:
    """Serve on a free port until the end of the block."""
    with ExitStack() as stack:
        database = stack.enter_context(opened(store or f"sqlite:///{folder / 'store.sqlite'}"))
        models = Models(make_models(folder), limits)
        port, stop = stack.enter_context(listening(build_app(models, database, keys, **options)))
        yield Running(port, models, database, stop)


@contextmanager
def listening(app: ASGIApp) -> Iterator[tuple[int, Callable[[], None]]]:
    """A server of any app on a free port, until the end of the block: its port, and what makes it end earlier."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = server_of(app, Address(port=port))
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
