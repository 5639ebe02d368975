"""A connection to a server of the OpenAI protocol: requests that are repeated, and errors that say what to do."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tutelage.errors import DataError, ResourceError, TutelageError
from tutelage.generation.memory import Memory

BUSY = {408, 429, 500, 502, 503, 504}
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a request is repeated; doubled each time
NOT_DONE = {400, 404, 405, 422, 501}
CONNECT_SECONDS = 10.0
_SHOWN = 200  # characters of what a server says


@dataclass(frozen=True)
class Server:
    """Where it is, which of its models is meant, and how patiently it is asked.

    The key is read from the environment variable `api_key_env`, if that is set, and goes to this server only.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 120.0
    attempts: int = 6


class Connection:
    """Asks one server. `repeated` counts requests made again, by reason; what `memory` knows is not asked again."""

    def __init__(self, server: Server, memory: Memory | None = None) -> None:
        self.server, self.repeated, self._memory = server, Counter[str](), memory
        key = _key(server.api_key_env)
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(server.timeout, connect=min(CONNECT_SECONDS, server.timeout), pool=None),
            limits=httpx2.Limits(max_connections=server.concurrency),
            trust_env=not _is_here(server.url),  # a proxy cannot reach this machine's own addresses
        )

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def check(self) -> None:
        """ResourceError if nobody answers, the key is refused, or the model is not among those served."""
        response = await self._send("GET", "models", None, patient=False)
        if response.status_code in (404, 405):
            return  # not every server has a list
        served = [str(entry.get("id")) for entry in self._body(response, "its models").get("data") or []]
        if served and self.server.model not in served:
            raise ResourceError(
                f"{self.server.url} does not serve {self.server.model!r}; it serves {', '.join(served[:8])}",
                hint="set engine.model to one of these, or start the server with that model (vLLM: "
                "`vllm serve FOLDER --served-model-name NAME`)",
            )

    async def post(self, path: str, payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """The answer to a request; errors call what was asked `name`. A path with `/` first is outside of `/v1`."""
        known = None if self._memory is None else self._memory.get(path, payload)
        if known is not None:
            return known
        body = self._body(await self._send("POST", path, payload), name)
        if self._memory is not None:
            self._memory.keep(path, payload, body)
        return body

    async def offered(self, path: str, payload: Mapping[str, Any], name: str) -> Mapping[str, Any] | str:
        """As `post`; if the server does not do such a thing, its own words for that."""
        response = await self._send("POST", path, payload)
        if response.status_code in NOT_DONE:
            return _said(response)
        return self._body(response, name)

    async def _send(
        self, method: str, path: str, payload: Mapping[str, Any] | None, patient: bool = True
    ) -> httpx2.Response:
        base = self.server.url.rstrip("/")
        url, problem = f"{base.removesuffix('/v1') if path.startswith('/') else base}/{path.lstrip('/')}", ""
        for attempt in range(self.server.attempts):
            wait = min(FIRST_WAIT * 2**attempt, LONGEST_WAIT)
            try:
                response = await self._client.request(method, url, json=payload)
            except httpx2.InvalidURL as error:
                raise ResourceError(f"{url} is no address: {error}", hint="look at engine.url") from error
            except httpx2.TransportError as error:
                if not patient and isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                    raise self._away(error) from error
                problem = _in_words(error, self.server)
            else:
                if response.status_code not in BUSY:
                    return response
                problem = f"{response.status_code} {response.reason_phrase}"
                wait = _asked_to_wait(response, wait)
            if attempt + 1 < self.server.attempts:
                self.repeated[problem] += 1
                await asyncio.sleep(wait)
        raise ResourceError(
            f"{url} gave no answer in {self.server.attempts} attempts; the last: {problem}",
            hint="the same command goes on with what is not answered yet. Look at the server's log; lower "
            "engine.concurrency, or raise engine.timeout or engine.attempts",
        )

    def _away(self, error: Exception) -> ResourceError:
        return ResourceError(
            f"no server answers at {self.server.url}: {error or type(error).__name__}",
            hint=f"start it (vLLM: `vllm serve FOLDER --served-model-name {self.server.model}`), mend engine.url, or "
            "leave `engine` out to decode here",
        )

    def _body(self, response: httpx2.Response, name: str) -> Mapping[str, Any]:
        if response.status_code >= 300:
            raise _refusal(response, self.server, name)
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise not_the_protocol(self.server, response.text)
        return body


def _key(variable: str) -> str:
    """The key in an environment variable, "" if it is not set; one that no header can hold is named, never shown."""
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ResourceError(
            f"the environment variable {variable} holds characters that no key has",
            hint="set it again, without line breaks or quotation marks around it",
        )
    return key


def _refusal(response: httpx2.Response, server: Server, name: str) -> TutelageError:
    said, status = _said(response), response.status_code
    if status in (401, 403):
        known = "was refused" if os.environ.get(server.api_key_env) else "is not set"
        return ResourceError(
            f"{server.url} lets nobody in without a key ({status}): {said}",
            hint=f"the environment variable {server.api_key_env} (engine.api_key_env) {known}",
        )
    if status == 404 or status < 400:
        return ResourceError(
            f"{server.url} has no such place or no model {server.model!r} ({status}): {said}",
            hint="engine.url ends in /v1 with most servers; engine.model is the name that the server gives the model",
        )
    return DataError(
        f"{server.url} refuses {name} ({status}): {said}",
        hint="if it is too long, shorten it or lower max_tokens; leave out settings that the server does not know",
    )


def _said(response: httpx2.Response) -> str:
    """The server's own words."""
    try:
        body = response.json()
        error = body.get("error", body)
        words = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        words = None
    return str(words or response.text or response.reason_phrase).strip()[:_SHOWN]


def not_the_protocol(server: Server, text: str, more: str = "") -> ResourceError:
    """What to say of an answer that is none."""
    return ResourceError(
        f"{server.url} answers, but not in the OpenAI protocol: {text[:_SHOWN]!r}" + (f"; {more}" if more else ""),
        hint="look at engine.url: it ends in /v1 with most servers",
    )


def _in_words(error: Exception, server: Server) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"nothing within {server.timeout:g} s"
    return str(error) or type(error).__name__


def _asked_to_wait(response: httpx2.Response, otherwise: float) -> float:
    """Seconds of the header Retry-After, if it is a number (RFC 9110, section 10.2.3); never longer than our own."""
    stated = response.headers.get("retry-after", "")
    return min(float(stated), LONGEST_WAIT) if stated.isdigit() else otherwise


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
