"""The pages put together: routes, static files, errors as pages, and the headers that every answer has."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tutelage.errors import NotFoundError, OutdatedError, TutelageError
from tutelage.serve.answering import LOG
from tutelage.web import board, compare, completions, data, login, rank, report, runs
from tutelage.web.site import POLICY, TYPES, Site, site_of

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
TITLES = {
    400: "This cannot be done",
    404: "There is nothing here",
    405: "Not for this address",
    409: "Changed",
}


def build_pages(site: Site) -> ASGIApp:
    """The web app of a site."""
    app = FastAPI(title="Tutelage", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.site = site
    app.add_api_route("/", _home, methods=["GET"])
    app.add_api_route("/static/{digest}/{name:path}", _static, methods=["GET"])
    for part in (login, rank, compare, runs, data, completions, board, report):
        app.include_router(part.ROUTER)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(TutelageError, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _failed)
    return _Headers(app)


class _Headers:
    """Sets headers that an answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


def _home(request: Request) -> Response:
    site = site_of(request)
    return RedirectResponse("/runs" if site.run is not None else "/compare")


def _static(request: Request, digest: str, name: str) -> Response:
    if site_of(request).hashes.get(name) != digest:
        raise HTTPException(404)
    path = site_of(request).files[name]
    return FileResponse(
        path, media_type=TYPES[path.suffix], headers={"Cache-Control": "public, max-age=31536000, immutable"}
    )


def _told(request: Request, status: int, message: str, hint: str = "") -> Response:
    if request.headers.get("content-type", "").startswith("application/json"):
        return JSONResponse({"error": {"message": message, "hint": hint}}, status)
    title = TITLES.get(status, "The server failed")
    return site_of(request).page(request, "error", status, title=title, message=message, hint=hint)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, TutelageError)
    status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, OutdatedError) else 400
    return _told(request, status, error.message, error.hint or "")


async def _not_valid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _told(request, 400, f"{place or 'the body'}: {first['msg']}", "This address is called by the pages.")


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _told(request, error.status_code, f"{request.method} {request.url.path[:200]}", "The pages are in the menu.")


async def _failed(request: Request, error: Exception) -> Response:
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _told(request, 500, "Something went wrong.", "The server's log has the reason.")
