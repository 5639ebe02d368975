"""What stands before all routes: the host's name, the page a request comes from, its key or cookie, and its size.

A web page of somebody else must not use the server of the person who looks at it: neither by a request to this address
(its Origin tells), nor under a name of its own that it makes point here (the Host tells).
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tutelage.serve.answering import Json
from tutelage.serve.browsers import COOKIE
from tutelage.serve.keys import Keys
from tutelage.serve.refusal import RefusalError

LOCAL = ("localhost", "127.0.0.1", "::1")
LOGIN, STATIC = "/login", "/static/"  # open to all: the door, and the files that its page looks like itself by
REQUEST_ID = "x-request-id"


class Guard:
    """ASGI around the routes; `scope["state"]` gets the `owner` of the token, "" without tokens."""

    def __init__(self, app: ASGIApp, keys: Keys, hosts: Sequence[str], any_address: bool, max_body: int) -> None:
        self._app, self._keys, self._max_body = app, keys, max_body
        self._hosts, self._any_address = {*LOCAL, *(host.lower() for host in hosts)}, any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with a body that cannot grow beyond its limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sent = headers.get(REQUEST_ID, "")
        request_id = sent if 0 < len(sent) <= 128 and sent.isascii() and sent.isprintable() else secrets.token_hex(12)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
                MutableHeaders(scope=message)["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            self._check(scope["method"], headers)
            scope.setdefault("state", {})["owner"] = self._owner(scope["path"], headers)
            body = await self._body(receive) if scope["method"] in ("POST", "PUT", "PATCH") else None
        except RefusalError as refusal:
            await self._refused(scope, headers, refusal)(scope, receive, named)
        else:
            await self._app(scope, receive if body is None else _again(body, receive), named)

    def _check(self, method: str, headers: Headers) -> None:
        host = _host_of(f"//{headers.get('host', '')}")
        if host not in self._hosts and not (self._any_address and _is_address(host)):
            raise RefusalError(403, f"the host {host!r:.80} is not this server's name", code="wrong_host")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        same = origin is None or (origin != "null" and urlsplit(origin).netloc == headers.get("host"))
        if not same or (site in ("cross-site", "same-site") and not _follows_link(method, headers)):
            raise RefusalError(403, "requests from other sites' pages are refused", code="cross_site")
        if int_or_zero(headers.get("content-length", "")) > self._max_body:
            raise self._too_large()

    def _owner(self, path: str, headers: Headers) -> str:
        """Who asks, by key or by cookie; "" where no key is needed."""
        if not self._keys or path == LOGIN or path.startswith(STATIC):
            return ""
        if "authorization" in headers:
            owner = self._keys.owner(headers["authorization"])
        else:
            owner = self._keys.browsers.owner(cookie_of(headers))
        if owner is None:
            raise RefusalError(
                401,
                "an API key is needed: `Authorization: Bearer …`, and this one is not known"
                if "authorization" in headers
                else "an API key is needed: `Authorization: Bearer …`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return owner

    def _refused(self, scope: Scope, headers: Headers, refusal: RefusalError) -> Response:
        """The error in shape; a person who looks for a page is led to the door instead."""
        if refusal.status == 401 and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            target = quote(scope["path"] + (f"?{query}" if query else ""), safe="")
            return RedirectResponse(f"{LOGIN}?to={target}", 303, headers={"Cache-Control": "no-store"})
        return Json(refusal.body, refusal.status, refusal.headers)

    async def _body(self, receive: Receive) -> bytes:
        """All of it, before anything looks at it: a length that is not stated cannot grow past the limit either."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message["type"] == "http.request" and message.get("more_body", False)
            if len(body) > self._max_body:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> RefusalError:
        return RefusalError(413, f"the request is larger than {self._max_body} bytes", code="request_too_large")


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and after it what comes: the end of the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def int_or_zero(text: str) -> int:
    """A header's number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0 if not text else 2**62


def cookie_of(headers: Headers) -> str:
    """What the session's cookie holds, or ""."""
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def _follows_link(method: str, headers: Headers) -> bool:
    """A person who comes by a link from elsewhere: the page is looked at by them alone, and nothing changes."""
    sent = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method in ("GET", "HEAD") and sent == ("navigate", "document")


def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    """A bare address cannot be made to point elsewhere, as a name can."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
