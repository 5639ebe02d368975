"""A server that runs until it is told to end: what is under way may finish, for a while."""

from __future__ import annotations

from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from tutelage.errors import ResourceError
from tutelage.serve.guard import LOCAL
from tutelage.serve.keys import Keys

GRACE_SECONDS = 30


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


def server_of(app: ASGIApp, address: Address, log_level: str = "warning") -> uvicorn.Server:
    """A server of one process; `run()` returns after Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        log_level=log_level,
        server_header=False,
        access_log=log_level == "info",
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
        ws="none",
    )
    return uvicorn.Server(config)
