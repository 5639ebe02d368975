"""A server that runs until it is told to end: what is under way may finish, for a while."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from tutelage.errors import ResourceError
from tutelage.serve.guard import LOCAL
from tutelage.serve.keys import Keys
from tutelage.serve.models import Models, Served

GRACE_SECONDS = 30
LAST_SECONDS = 5  # after that, to tell what did not end in time
ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return self.host not in LOCAL

    @property
    def url(self) -> str:
        """For people and clients."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"

    def check(self, keys: Keys) -> None:
        """ResourceError for an address that everybody reaches without a key."""
        if self.is_public and not keys:
            raise ResourceError(
                f"other machines can reach {self.host}, and no key is asked for",
                hint="make one (tutelage serve --keys FILE --new-key NAME) and start with --keys FILE, or leave "
                "--host out",
            )


class Server(uvicorn.Server):
    """Ends without a trace of trouble: what is under way may finish; what has not when the time is over hears so."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None], grace: float) -> None:
        super().__init__(config)
        self._stop, self._grace = stop, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn.Server."""
        loop = asyncio.get_running_loop()
        ending = loop.call_later(self._grace, lambda: loop.run_in_executor(None, self._stop))
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


def server_of(
    app: ASGIApp,
    address: Address,
    log_level: str = "warning",
    stop: Callable[[], None] = lambda: None,
    grace: float = GRACE_SECONDS,
) -> Server:
    """A server of one process; told to end, it gives what is under way `grace` seconds, then calls `stop`."""
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        log_level=log_level,
        server_header=False,
        access_log=log_level == "info",
        timeout_graceful_shutdown=math.ceil(grace) + LAST_SECONDS,
        lifespan="on",
        ws="none",
    )
    return Server(config, stop, grace)


def run(server: Server, models: Models, address: Address, told: Callable[[Served], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; models load meanwhile, and each is told of.

    Raises what keeps a model from loading, and ResourceError if the address cannot be opened.
    """
    problems: list[Exception] = []

    def load() -> None:
        try:
            models.load(told)
        except Exception as problem:
            problems.append(problem)
            server.should_exit = True

    # uvicorn raises signals again when it has ended: no reason to die then
    before = {number: signal.signal(number, server.handle_exit) for number in ENDING}
    loading = threading.Thread(target=load, name="loading", daemon=True)
    loading.start()
    with contextlib.suppress(SystemExit):  # uvicorn's way to say that the address is taken
        server.run()
    for number, handler in before.items():
        signal.signal(number, handler)
    models.stop()
    loading.join()
    models.stop()  # what was loaded last
    if problems:
        raise problems[0]
    if not server.started:
        raise ResourceError(f"{address.url} cannot be opened", hint="another program may use the port: try --port")
