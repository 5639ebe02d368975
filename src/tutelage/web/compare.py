"""Compare: one prompt to several models at once; what they say can be sent to ranking."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from tutelage.errors import DataError
from tutelage.labels.records import MAX_REPLIES, NewItem, Reply
from tutelage.run.config import Strict
from tutelage.web.rank import labels_of
from tutelage.web.site import site_of

ROUTER = APIRouter()
TASK = "compare"
STYLES = (
    ("as asked", "{}"),
    ("for a child", "{} Explain it as to a five-year-old child."),
    ("in one sentence", "{} Answer in one sentence."),
    ("step by step", "{} Explain it step by step."),
    ("as a list", "{} Answer as a list."),
    ("politely", "{} Answer politely."),
)


class Said(Strict):
    """What one model said."""

    text: str = Field(max_length=100_000)
    model: str = Field(max_length=1000)
    finished: bool = True
    sampling: dict[str, float | int | None] = Field(default={})


class ToRank(Strict):
    """A prompt with its replies, to be ranked."""

    prompt: str = Field(min_length=1, max_length=100_000)
    replies: list[Said] = Field(max_length=MAX_REPLIES)


@ROUTER.get("/compare")
def compare(request: Request) -> Response:
    """The page; its script talks to the API."""
    site = site_of(request)
    models = [{"name": name, "chats": served.chats} for name, served in site.models.by_name.items()]
    return site.page(request, "compare", models=models, styles=STYLES, can_rank=site.labels is not None)


@ROUTER.post("/compare/rank")
async def to_rank(request: Request, body: ToRank) -> Response:
    """Make an item of the replies; equal ones become one."""
    replies: dict[str, Reply] = {}
    for said in body.replies:
        sampling: dict[str, Any] = {name: value for name, value in said.sampling.items() if value is not None}
        replies.setdefault(said.text.strip(), Reply(said.text, said.model, said.finished, sampling))
    if len(replies) < 2:
        raise DataError("there is nothing to choose from", hint="two models have to say different things")
    item = NewItem([{"role": "user", "content": body.prompt}], list(replies.values()))
    labels = labels_of(request)

    def add() -> int:
        if TASK not in labels.tasks():
            labels.make_task(TASK)
        return labels.add_items(TASK, [item])

    return JSONResponse({"added": await run_in_threadpool(add), "task": TASK})
