"""Rank: the next sheet of an annotator, what stands on it, what they decide, and how far they agree."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.errors import DataError
from tutelage.labels.records import FLAGS, Verdict
from tutelage.labels.service import Labels
from tutelage.labels.tasks import checked_name, page_of
from tutelage.run.config import Strict
from tutelage.web.site import ANNOTATOR, annotator_of, form_of, site_of

ROUTER = APIRouter()
MOST_PAIRS = 4  # of annotators, below a sheet; the board has all


class Drafted(Strict):
    """What stands on a sheet; a later revision replaces it."""

    presentation: int
    body: dict[str, Any]
    revision: int = Field(ge=0, lt=2**31)


class Decided(Strict):
    """A verdict or, without one, a skip. The same `client_id` again stores nothing."""

    presentation: int
    client_id: str
    verdict: Verdict | None = None
    reason: str = Field(default="", max_length=10_000)
    seconds: float | None = Field(default=None, ge=0, le=1e7, allow_inf_nan=False)


class Undone(Strict):
    """Take the last decision back."""

    task: str
    client_id: str


def labels_of(request: Request) -> Labels:
    """The service of labels."""
    labels = site_of(request).labels
    if labels is None:
        raise DataError("this server stores nothing", hint="start it without `--store none`")
    return labels


@ROUTER.get("/rank")
def rank(request: Request, task: str = "") -> Response:
    """The sheet, or a choice of task and name."""
    site, who = site_of(request), annotator_of(request)
    labels = labels_of(request)
    names = labels.tasks()
    if not who or not names or (not task and len(names) > 1):
        rows = [(name, labels.progress(name)) for name in names]
        return site.page(request, "rank_begin", tasks=rows, task=task, who=who)
    return site.page(request, "rank", **_sheet(labels, task or names[0], who))


@ROUTER.get("/rank/sheet")
def sheet(request: Request, task: str) -> Response:
    """The part of the page that changes."""
    return site_of(request).page(request, "rank_sheet", **_sheet(labels_of(request), task, annotator_of(request)))


def _sheet(labels: Labels, task: str, who: str) -> dict[str, Any]:
    found = labels.next_item(task, who)
    return {"task": task, "who": who, "sheet": found, "progress": labels.progress(task), "flags": FLAGS}


@ROUTER.post("/rank/name")
async def name(request: Request) -> Response:
    """Say who ranks."""
    field = await form_of(request)
    who = checked_name("annotator", field("name"))
    target = page_of(field("task")) if field("task") else "/rank"
    answer = RedirectResponse(target, 303)
    answer.set_cookie(ANNOTATOR, quote(who), max_age=31_536_000, httponly=True, samesite="lax", path="/")
    return answer


@ROUTER.post("/rank/leave")
def leave() -> Response:
    """Forget who ranks."""
    answer = RedirectResponse("/rank", 303)
    answer.delete_cookie(ANNOTATOR, path="/")
    return answer


@ROUTER.post("/rank/draft")
async def draft(request: Request, body: Drafted) -> Response:
    """Keep what stands on the screen."""
    save = labels_of(request).save_draft
    kept = await run_in_threadpool(save, body.presentation, annotator_of(request), body.body, body.revision)
    return JSONResponse({"revision": kept})


@ROUTER.post("/rank/decide")
async def decide(request: Request, body: Decided) -> Response:
    """Store a verdict, or a skip."""
    labels, who = labels_of(request), annotator_of(request)
    if body.verdict is not None:
        receipt = await run_in_threadpool(labels.submit, body.presentation, who, body.verdict, body.client_id)
    else:
        receipt = await run_in_threadpool(
            labels.skip, body.presentation, who, body.client_id, body.reason, body.seconds
        )
    return JSONResponse({"judgement": receipt.judgement, "again": receipt.again})


@ROUTER.post("/rank/undo")
async def undo(request: Request, body: Undone) -> Response:
    """Open the last sheet again."""
    found = await run_in_threadpool(labels_of(request).undo, body.task, annotator_of(request), body.client_id)
    return JSONResponse({"undone": found is not None})


@ROUTER.get("/rank/agreement")
def agreement(request: Request, task: str) -> Response:
    """Agreement and progress, asked every few seconds."""
    return site_of(request).page(request, "agreement", stats=labels_of(request).stats(task), most=MOST_PAIRS)
