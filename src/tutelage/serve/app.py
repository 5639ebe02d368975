"""The routes, put together: models, chat, completions, stored completions, tokens, health."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from tutelage.errors import TutelageError
from tutelage.serve import chat, stored, texts, tokens
from tutelage.serve.answering import LOG, EventStream, HungUpError, Json, cancel, unless_gone
from tutelage.serve.guard import Guard
from tutelage.serve.keeping import Asked, replay, shown
from tutelage.serve.keys import Keys
from tutelage.serve.models import Models, Served
from tutelage.serve.protocol import ChatBody, CompletionBody
from tutelage.serve.refusal import INVALID, RefusalError, invalid, refusal_of, unavailable
from tutelage.store.engine import Store

CLOSED = 499  # as proxies note a client that hung up; nobody reads it


def build_app(
    models: Models, store: Store | None, keys: Keys | None = None, hosts: tuple[str, ...] = (), public: bool = False,
    pages: ASGIApp | None = None,
) -> ASGIApp:  # fmt: skip
    """The API over these models, behind its guard. Without a store nothing can be stored.

    `pages` answers every address that is not the API's.
    """
    app = FastAPI(
        title="Tutelage",
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan,
        default_response_class=Json,
    )
    app.state.models, app.state.store = models, store
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route("/v1/models", _models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", _model, methods=["GET"])
    app.add_api_route("/v1/chat/completions", _chat, methods=["POST"])
    app.add_api_route("/v1/completions", _completions, methods=["POST"])
    app.include_router(stored.ROUTER)
    app.include_router(tokens.ROUTER)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(HungUpError, _hung_up)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(TutelageError, _refused)
    whole = app if pages is None else _Beside(app, pages)
    return Guard(whole, keys or Keys(), hosts, any_address=public, max_body=models.limits.body)


class _Beside:
    """The API at its addresses, the pages at all others."""

    OURS = ("v1", "health", "tokenizer_info", "tokenize", "detokenize", "openapi.json")

    def __init__(self, api: ASGIApp, pages: ASGIApp) -> None:
        self._api, self._pages = api, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and scope["path"].split("/")[1:2] not in [[name] for name in self.OURS]
        await (self._pages if is_page else self._api)(scope, receive, send)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(app.state.models.stop)


async def _health(request: HttpRequest) -> Response:
    """Whether the server works, and how busy each model is; 503 while models load."""
    models: Models = request.app.state.models
    busy = {
        name: {"slots": served.worker.num_slots, "busy": served.worker.num_busy, "waiting": served.worker.num_waiting}
        for name, served in models.by_name.items()
    }
    if models.missing:
        refusal = unavailable(f"being loaded: {', '.join(models.missing)}", "loading")
        return Json({"status": "loading", "models": busy, **refusal.body}, refusal.status, refusal.headers)
    return Json({"status": "ok", "models": busy})


async def _models(request: HttpRequest) -> dict[str, Any]:
    """All models."""
    return {"object": "list", "data": [_described(served) for served in request.app.state.models.all()]}


async def _model(request: HttpRequest, name: str) -> dict[str, Any]:
    """One model."""
    return _described(request.app.state.models.get(name))


def _described(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "tutelage",
        "max_model_len": served.context,
        "stage": served.place.stage or None,
        "chat": served.chats,
    }


async def _chat(request: HttpRequest, body: ChatBody) -> Response:
    """Replies to a conversation."""
    served = request.app.state.models.get(body.model)
    store, asked = _to_store(request, body)
    if store is not None and asked is not None:
        before = await run_in_threadpool(asked.before, store)
        if before is not None and body.stream:
            includes_usage = body.stream_options is not None and body.stream_options.include_usage
            return EventStream(replay(before, includes_usage), lambda: None)
        if before is not None:
            return Json(shown(before))
    begun = await run_in_threadpool(chat.prepare, served, body)
    begun.start()

    def keep(completion: Mapping[str, Any]) -> None:
        if store is not None and asked is not None:
            asked.keep(store, begun, completion)

    if body.stream:
        events = chat.stream(begun, keep if store is not None else None)
        return EventStream(events, lambda: cancel(served.worker, begun.tickets))
    completion = await unless_gone(request, chat.answer(begun))
    if store is not None:
        await run_in_threadpool(keep, completion)
        return Json({**completion, "metadata": body.metadata or {}})
    return Json(completion)


def _to_store(request: HttpRequest, body: ChatBody) -> tuple[Store | None, Asked | None]:
    if not body.store:
        return None, None
    store: Store | None = request.app.state.store
    if store is None:
        raise invalid("this server stores nothing: it was started with --store none", "store")
    return store, Asked(body, request.state.owner, request.headers)


async def _completions(request: HttpRequest, body: CompletionBody) -> Response:
    """What follows a text."""
    served = request.app.state.models.get(body.model)
    begun = await unless_gone(request, texts.begin(served, body))
    if body.stream:
        return EventStream(texts.stream(begun), lambda: cancel(served.worker, begun.tickets))
    return Json(await unless_gone(request, texts.answer(begun)))


async def _refused(request: HttpRequest, error: Exception) -> Response:
    refusal = refusal_of(error)
    return Json(refusal.body, refusal.status, refusal.headers)


async def _failed(request: HttpRequest, error: Exception) -> Response:
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return await _refused(request, error)


async def _hung_up(request: HttpRequest, error: Exception) -> Response:
    return Response(status_code=CLOSED)


async def _no_route(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {
        404: f"there is no {request.url.path!r:.200} here",
        405: f"{request.method} is not for this",
    }
    refusal = RefusalError(error.status_code, words.get(error.status_code, str(error.detail)), kind=INVALID)
    return Json(refusal.body, refusal.status, dict(error.headers or {}))


async def _not_valid(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = [part for part in first["loc"] if part not in ("body", "query", "path")]
    param = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or None
    where = f"{param}: " if param else "the body: "
    return await _refused(request, invalid(f"{where}{first['msg']}", param))
