"""Completions: those that were stored, filtered, page by page, and as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from tutelage.errors import DataError
from tutelage.store import completions as stored
from tutelage.store.completions import Kept, Wanted
from tutelage.store.engine import Store
from tutelage.web.site import site_of

ROUTER = APIRouter()
PAGE = 20


def _store(request: Request) -> Store:
    store = site_of(request).store
    if store is None:
        raise DataError("this server stores nothing", hint="start it without `--store none`")
    return store


def _wanted(request: Request, model: str, pair: str) -> Wanted:
    """The owner's own; `pair` is `name=value` of metadata."""
    name, mark, value = pair.partition("=")
    if pair and not mark:
        raise DataError(f"metadata {pair[:60]!r} is no filter", hint="write name=value")
    metadata = {name.strip(): value.strip()} if pair else {}
    return Wanted(owner=request.state.owner, model=model.strip() or None, metadata=metadata)


@ROUTER.get("/completions")
def completions(request: Request, model: str = "", pair: str = "", after: str = "") -> Response:
    """A page of them, the newest first."""
    store, wanted = _store(request), _wanted(request, model, pair)
    last = stored.get(store, request.state.owner, after) if after else None
    rows, more = stored.page(store, wanted, last, PAGE, descending=True)
    asked = urlencode({"model": model, "pair": pair})
    onward = f"/completions?{asked}&{urlencode({'after': rows[-1].id})}" if more else ""
    shown = [_shown(row) for row in rows]
    return site_of(request).page(
        request, "completions", rows=shown, onward=onward, asked=asked, model=model, pair=pair, later=bool(after)
    )


@ROUTER.get("/completions/export")
def export(request: Request, model: str = "", pair: str = "") -> Response:
    """The same, all of them, as JSON lines."""
    rows = stored.every(_store(request), _wanted(request, model, pair))
    headers = {"Content-Disposition": 'attachment; filename="completions.jsonl"'}
    return StreamingResponse(_lines(rows), media_type="application/x-ndjson", headers=headers)


def _lines(rows: Iterator[Kept]) -> Iterator[str]:
    for row in rows:
        line = {"id": row.id, "model": row.model, "created": row.created, "messages": row.messages,
                "metadata": dict(row.metadata), "choices": row.body.get("choices", [])}  # fmt: skip
        yield json.dumps(line) + "\n"


def _shown(row: Kept) -> dict[str, Any]:
    choices = row.body.get("choices") or [{}]
    return {
        "kept": row,
        "asked": [(str(one.get("role", "")), text_of(one.get("content"))) for one in row.messages],
        "replies": [text_of((choice.get("message") or {}).get("content")) for choice in choices],
    }


def text_of(content: Any) -> str:
    """A message's content, which is text or parts of it."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
