"""Completions: those that were stored, filtered, page by page, one by one, and as a file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response, StreamingResponse

from tutelage.errors import DataError, NotFoundError
from tutelage.sources.stored import Selection, moment
from tutelage.store import completions as stored
from tutelage.store.completions import Kept, Wanted
from tutelage.store.engine import Store
from tutelage.web.site import form_of, site_of

ROUTER = APIRouter()
PAGE = 20


def _store(request: Request) -> Store:
    store = site_of(request).store
    if store is None:
        raise DataError("this server stores nothing", hint="start it without `--store none`")
    return store


def _selection(model: str, pair: str, since: str, until: str) -> Selection:
    """The filter of the page, as the command has it; `pair` is `name=value` of metadata."""
    name, mark, value = pair.partition("=")
    if pair.strip() and not mark:
        raise DataError(f"metadata {pair[:60]!r} is no filter", hint="write name=value")
    for text in (since, until):
        try:
            moment(text or "2026-01-01")
        except ValueError as error:
            raise DataError(f"{text[:40]!r} is no time", hint="write 2026-11-26 or 2026-11-26T10:00 (UTC)") from error
    metadata = {name.strip(): value.strip()} if mark else {}
    return Selection(model.strip() or None, metadata, since or None, until or None)


def _wanted(request: Request, selection: Selection) -> Wanted:
    """The owner's own."""
    return replace(selection.wanted, owner=request.state.owner)


@ROUTER.get("/completions")
def completions(
    request: Request, model: str = "", pair: str = "", since: str = "", until: str = "", after: str = ""
) -> Response:
    """A page of them, the newest first."""
    store, selection = _store(request), _selection(model, pair, since, until)
    last = stored.get(store, request.state.owner, after) if after else None
    rows, more = stored.page(store, _wanted(request, selection), last, PAGE, descending=True)
    fields = {"model": model, "pair": pair, "since": since, "until": until}
    asked = urlencode({name: value for name, value in fields.items() if value})
    onward = f"/completions?{asked}&{urlencode({'after': rows[-1].id})}" if more else ""
    return site_of(request).page(
        request, "completions", rows=[_shown(row) for row in rows], asked=asked, later=bool(after), onward=onward,
        model=model, pair=pair, since=since, until=until, models=stored.models(store, request.state.owner),
        command=_command(request, store, selection),
    )  # fmt: skip


def _command(request: Request, store: Store, selection: Selection) -> str:
    """The same on the command line."""
    run = site_of(request).run
    where = str(run) if run is not None else store.engine.url.render_as_string(hide_password=True)
    words = ["tutelage", "completions", "export", where]
    words += ["--model", selection.model] if selection.model else []
    words += [word for pair in selection.metadata.items() for word in ("--metadata", "=".join(pair))]
    words += ["--since", selection.since] if selection.since else []
    words += ["--until", selection.until] if selection.until else []
    return shlex.join([*words, "--out", "replies.jsonl"])


@ROUTER.get("/completions/export")
def export(request: Request, model: str = "", pair: str = "", since: str = "", until: str = "") -> Response:
    """The same, all of them, as JSON lines."""
    rows = stored.every(_store(request), _wanted(request, _selection(model, pair, since, until)))
    headers = {"Content-Disposition": 'attachment; filename="completions.jsonl"'}
    return StreamingResponse(_lines(rows), media_type="application/x-ndjson", headers=headers)


def _lines(rows: Iterator[Kept]) -> Iterator[str]:
    for row in rows:
        line = {"id": row.id, "model": row.model, "created": row.created, "messages": row.messages,
                "metadata": dict(row.metadata), "choices": row.body.get("choices", [])}  # fmt: skip
        yield json.dumps(line) + "\n"


@ROUTER.get("/completions/one")
def one(request: Request, id: str) -> Response:
    """A completion with all that is known of it."""
    kept = stored.get(_store(request), request.state.owner, id)
    if kept is None:
        raise NotFoundError(f"there is no completion {id[:80]!r}", hint="it may have been deleted")
    asked = {name: value for name, value in kept.request.items() if name not in ("messages", "metadata", "tools")}
    whole = json.dumps({**kept.body, "messages": kept.messages}, indent=2, ensure_ascii=False)
    return site_of(request).page(
        request, "completion", row=_shown(kept), usage=kept.body.get("usage") or {}, whole=whole,
        settings=[(name, json.dumps(value, ensure_ascii=False)) for name, value in asked.items()],
    )  # fmt: skip


@ROUTER.post("/completions/delete")
async def delete(request: Request) -> Response:
    """Delete one for good, and go back to the list."""
    field = await form_of(request)
    if not await run_in_threadpool(stored.delete, _store(request), request.state.owner, field("id")):
        raise NotFoundError(f"there is no completion {field('id')[:80]!r}", hint="it may have been deleted already")
    return RedirectResponse("/completions", 303)


def _shown(row: Kept) -> dict[str, Any]:
    choices = row.body.get("choices") or [{}]
    return {
        "kept": row,
        "when": datetime.fromtimestamp(row.created, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "asked": [(str(one.get("role", "")), _said(one)) for one in row.messages],
        "replies": [(_said(choice.get("message") or {}), str(choice.get("finish_reason") or "")) for choice in choices],
    }


def _said(message: dict[str, Any]) -> str:
    """A message's content, and the tools that it calls."""
    calls = [call.get("function") or {} for call in message.get("tool_calls") or []]
    called = [f"→ {call.get('name', '')}({call.get('arguments', '')})" for call in calls]
    return "\n".join(part for part in (text_of(message.get("content")), *called) if part)


def text_of(content: Any) -> str:
    """A message's content, which is text or parts of it."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
