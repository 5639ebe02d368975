"""Browsers that are let in: a code that works once becomes a cookie. Both are random; only their hashes are held."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

COOKIE = "tutelage_session"
CODE_SECONDS, SESSION_SECONDS = 3600.0, 30 * 86_400.0
MAX_HELD = 10_000  # of each kind; beyond it the oldest end

Held = dict[str, tuple[str, float]]  # hash → whose it is, and when it ends


class Browsers:
    """Codes and sessions, in memory: they end with the server. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._codes, self._sessions = clock, Held(), Held()

    def invite(self, owner: str) -> str:
        """A code that lets one browser in as this owner, within an hour."""
        return self._new(self._codes, owner, CODE_SECONDS)

    def redeem(self, code: str) -> str | None:
        """Whose a code is; it does not work a second time. None for one that is not known, used or late."""
        owner, ends = self._codes.pop(_hashed(code), ("", 0.0))
        return owner if ends > self._clock() else None

    def admit(self, owner: str) -> str:
        """What a browser's cookie is to hold from now on."""
        return self._new(self._sessions, owner, SESSION_SECONDS)

    def owner(self, cookie: str) -> str | None:
        """Whose a browser is by its cookie; None if it has to log in."""
        owner, ends = self._sessions.get(_hashed(cookie), ("", 0.0))
        return owner if ends > self._clock() else None

    def leave(self, cookie: str) -> None:
        """The cookie lets nobody in any more."""
        self._sessions.pop(_hashed(cookie), None)

    def _new(self, held: Held, owner: str, seconds: float) -> str:
        secret = secrets.token_urlsafe(24)
        held[_hashed(secret)] = owner, self._clock() + seconds
        if len(held) > MAX_HELD:
            held.pop(next(iter(held)), None)
        return secret


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
