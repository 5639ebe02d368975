"""Report: the page that the run's report stage wrote, in a frame that can do nothing."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from tutelage.web.site import Site, site_of

ROUTER = APIRouter()
FRAMED = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"


def reports(site: Site) -> list[str]:
    """Stages of the run that wrote a report, the newest first."""
    found = [] if site.run is None else [path for path in site.run.glob("*/report.html") if "." not in path.parent.name]
    return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]


@ROUTER.get("/report")
def report(request: Request, stage: str = "") -> Response:
    """The frame."""
    site = site_of(request)
    names = reports(site)
    return site.page(request, "report", names=names, stage=stage if stage in names else names[0] if names else "")


@ROUTER.get("/report/page")
def page(request: Request, stage: str) -> Response:
    """What is framed; only names that are there are read."""
    site = site_of(request)
    if stage not in reports(site):
        raise HTTPException(404)
    path = Path(site.run or "") / stage / "report.html"
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": FRAMED})
