"""Report: the page that a report stage of the run wrote, in a frame that can do nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from tutelage.web.site import Site, site_of
from tutelage.web.surveyed import run_of, runs_of

ROUTER = APIRouter()
PAGE = "report.html"
FRAMED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


def reports(folder: Path) -> dict[str, Path]:
    """Finished stages of a run that wrote a report, the newest first."""
    found = [path for path in folder.glob(f"*/{PAGE}") if "." not in path.parent.name]
    return {path.parent.name: path for path in sorted(found, key=lambda path: -path.stat().st_mtime)}


def _all(site: Site) -> list[dict[str, Any]]:
    """Every report of every run that the site shows."""
    return [
        {
            "run": name,
            "stage": stage,
            "when": datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M"),
        }
        for name, folder in runs_of(site).items()
        for stage, path in reports(folder).items()
    ]


@ROUTER.get("/report")
def report(request: Request, stage: str = "", run: str = "") -> Response:
    """The frame: the newest report of a run, or that of one of its stages."""
    site = site_of(request)
    every = _all(site)
    name = run_of(site, run).name if runs_of(site) else ""
    own = [one for one in every if one["run"] == name]
    if stage and all(one["stage"] != stage for one in own):
        raise HTTPException(404)
    chosen = stage or (own[0]["stage"] if own else "")
    return site.page(request, "report", reports=every, run=name, stage=chosen)


@ROUTER.get("/report/page")
def page(request: Request, stage: str, run: str = "") -> Response:
    """What is framed; only names that are there are read."""
    known = reports(run_of(site_of(request), run))
    if stage not in known:
        raise HTTPException(404)
    return FileResponse(known[stage], media_type="text/html", headers={"Content-Security-Policy": FRAMED})
