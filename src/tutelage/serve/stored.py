"""Stored completions over HTTP: listed by model, metadata and time, read, labelled anew, deleted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest

from tutelage.serve.keeping import shown
from tutelage.serve.protocol import UpdateBody
from tutelage.serve.refusal import RefusalError, invalid
from tutelage.store import completions
from tutelage.store.completions import Kept, Wanted
from tutelage.store.engine import Store

ROUTER = APIRouter(prefix="/v1/chat/completions")
MOST = 100  # a page
Limit = Annotated[int, Query(ge=1, le=MOST)]
Order = Literal["asc", "desc"]
_FILTER = re.compile(r"metadata\[(.*)\]", re.DOTALL)


@ROUTER.get("")
def _list(
    request: HttpRequest, model: str | None = None, after: str | None = None, limit: Limit = 20, order: Order = "asc"
) -> dict[str, Any]:
    """Stored completions, oldest first; `metadata[key]=value` selects."""
    metadata = {match[1]: value for key, value in request.query_params.items() if (match := _FILTER.fullmatch(key))}
    store, owner = _store(request), request.state.owner
    last = None if after is None else completions.get(store, owner, after)
    if after is not None and last is None:
        raise invalid(f"after: there is no stored completion {after!r:.80}", "after")
    rows, more = completions.page(store, Wanted(owner, model, metadata), last, limit, descending=order == "desc")
    return _listed([shown(row) for row in rows], more)


@ROUTER.get("/{completion_id}")
def _get(request: HttpRequest, completion_id: str) -> dict[str, Any]:
    """One."""
    return shown(_kept(request, completion_id))


@ROUTER.post("/{completion_id}")
def _update(request: HttpRequest, completion_id: str, body: UpdateBody) -> dict[str, Any]:
    """New metadata in place of the old."""
    kept = completions.relabel(_store(request), request.state.owner, completion_id, body.metadata)
    if kept is None:
        raise _missing(completion_id)
    return shown(kept)


@ROUTER.delete("/{completion_id}")
def _delete(request: HttpRequest, completion_id: str) -> dict[str, Any]:
    """Forget it."""
    if not completions.delete(_store(request), request.state.owner, completion_id):
        raise _missing(completion_id)
    return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}


@ROUTER.get("/{completion_id}/messages")
def _messages(
    request: HttpRequest, completion_id: str, after: str | None = None, limit: Limit = 20, order: Order = "asc"
) -> dict[str, Any]:
    """The messages that were answered."""
    kept = _kept(request, completion_id)
    rows = [{"id": f"{kept.id}-{place}", **message} for place, message in enumerate(kept.messages)]
    rows = rows if order == "asc" else rows[::-1]
    if after is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == after]
        if not places:
            raise invalid(f"after: there is no message {after!r:.80}", "after")
        rows = rows[places[0] + 1 :]
    return _listed(rows[:limit], len(rows) > limit)


def _listed(rows: Sequence[dict[str, Any]], more: bool) -> dict[str, Any]:
    ids = {"first_id": rows[0]["id"] if rows else None, "last_id": rows[-1]["id"] if rows else None}
    return {"object": "list", "data": list(rows), **ids, "has_more": more}


def _kept(request: HttpRequest, completion_id: str) -> Kept:
    kept = completions.get(_store(request), request.state.owner, completion_id)
    if kept is None:
        raise _missing(completion_id)
    return kept


def _store(request: HttpRequest) -> Store:
    store: Store | None = request.app.state.store
    if store is None:
        raise RefusalError(404, "this server stores nothing: it was started with --store none", code="no_store")
    return store


def _missing(completion_id: str) -> RefusalError:
    return RefusalError(404, f"there is no stored completion {completion_id!r:.80}", code="not_found")
