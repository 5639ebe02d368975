"""Login: a code that works once, or a key, becomes a cookie that no script can read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.errors import DataError
from tutelage.serve.browsers import CODE_SECONDS, COOKIE, SESSION_SECONDS
from tutelage.serve.guard import LOGIN, cookie_of
from tutelage.serve.keys import Keys
from tutelage.web.site import form_of, site_of

ROUTER = APIRouter()


def _keys(request: Request) -> Keys:
    keys = site_of(request).keys
    if not keys:
        raise DataError("this server asks nobody for a key", hint="start it with `--keys FILE`")
    return keys


def _page(request: Request, status: int = 200, **shown: Any) -> Response:
    return site_of(request).page(request, "login", status, **{"code": "", "to": "/", "wrong": False, **shown})


@ROUTER.get(LOGIN)
def login(request: Request, code: str = "", to: str = "/") -> Response:
    """The door. A code in the address is only used when the form is sent: what looks links up must not use it."""
    if not site_of(request).keys:
        return RedirectResponse("/", 303)
    return _page(request, code=code, to=local(to))


@ROUTER.post(LOGIN)
async def enter(request: Request) -> Response:
    """Let a browser in."""
    keys, field = _keys(request), await form_of(request)
    given, to = field("code"), local(field("to"))
    owner = keys.browsers.redeem(given) or keys.owner_of(given)
    if owner is None:
        return _page(request, 403, to=to, wrong=True)
    answer = RedirectResponse(to, 303)
    answer.set_cookie(
        COOKIE, keys.browsers.admit(owner), max_age=int(SESSION_SECONDS), path="/", httponly=True, samesite="lax",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@ROUTER.post(f"{LOGIN}/code")
def code(request: Request) -> Response:
    """A new code for another browser of the same owner: `curl -X POST -H "Authorization: Bearer …"`."""
    url = f"{request.base_url}{LOGIN[1:]}?code={quote(_keys(request).browsers.invite(request.state.owner))}"
    return JSONResponse({"url": url, "seconds": CODE_SECONDS})


@ROUTER.post("/logout")
def leave(request: Request) -> Response:
    """End this browser's session."""
    _keys(request).browsers.leave(cookie_of(request.headers))
    answer = RedirectResponse(LOGIN, 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def local(target: str) -> str:
    """An address on this server, or its first page: a login must not lead elsewhere."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    outside = parts.scheme or parts.netloc or not target.startswith("/") or target.startswith("//")
    return "/" if outside or "\\" in target or not target.isprintable() else target
