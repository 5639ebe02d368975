"""Board: which model's replies are preferred, how sure that is, and how much the judges can be trusted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from tutelage.labels.summary import Board
from tutelage.web.rank import labels_of
from tutelage.web.site import site_of

ROUTER = APIRouter()
WIDTH = 200  # of the drawing of an interval


@ROUTER.get("/board")
def board(request: Request, task: str = "") -> Response:
    """Strengths with intervals, position bias, agreement."""
    labels = labels_of(request)
    names = labels.tasks()
    own = task or (names[-1] if names else "")
    if not own:
        return site_of(request).page(request, "board", tasks=[], task="", stats=None, rows=[], groups=[])
    found = labels.board(own)
    return site_of(request).page(
        request,
        "board",
        tasks=names,
        task=own,
        stats=labels.stats(own),
        rows=drawn(found),
        groups=found.groups,
        most=None,
    )


def drawn(found: Board) -> list[dict[str, Any]]:
    """Standings with the places of their marks on a line of WIDTH; the average model is always on it."""
    marks: list[float] = [0.0, *(mark for row in found.standings for mark in (row.strength, *(row.interval or ())))]
    low = min(marks)
    span = max(max(marks) - low, 1e-9)

    def place(value: float) -> float:
        return round(4 + (WIDTH - 8) * (value - low) / span, 2)

    return [
        {"row": row, "ends": [place(end) for end in row.interval or ()], "at": place(row.strength), "zero": place(0)}
        for row in found.standings
    ]
