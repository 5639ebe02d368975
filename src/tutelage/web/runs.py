"""Runs: the stages of a run with their state, what one was made from and made, and its curves while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from tutelage.errors import TutelageError
from tutelage.evaluation.report import lifecycle
from tutelage.evaluation.report.facts import gather
from tutelage.run.folder import RUN_FILE, holder, saved_recipe
from tutelage.run.graph import Graph, build_graph, select
from tutelage.run.journal import read_journal
from tutelage.run.manifest import JOURNAL
from tutelage.run.metrics import headline
from tutelage.run.progress import format_seconds
from tutelage.run.publish import partial_of
from tutelage.run.status import StageState, survey
from tutelage.web.curves import picked
from tutelage.web.site import Site, site_of

ROUTER = APIRouter()


def run_of(site: Site, name: str) -> Path:
    """The site's run, or one beside it, by a name that is looked up and never joined to a path."""
    known = runs_of(site)
    if not known or (name and name not in known):
        raise HTTPException(404)
    return known[name] if name else next(iter(known.values()))


def runs_of(site: Site) -> dict[str, Path]:
    """The site's own run first, then those in the same folder."""
    if site.run is None:
        return {}
    beside = sorted(path.parent for path in site.run.resolve().parent.glob(f"*/{RUN_FILE}"))
    return {site.run.name: site.run} | {path.name: path for path in beside if path.name != site.run.name}


def _graph(site: Site, run: Path) -> Graph:
    return build_graph(saved_recipe(run, site.specs), site.specs)


@ROUTER.get("/runs")
def runs(request: Request, run: str = "") -> Response:
    """All stages with their state."""
    site = site_of(request)
    known = runs_of(site)
    if not known:
        return site.page(request, "runs", runs=[], run="", stages=[], pictures=[], pid=0)
    folder = run_of(site, run)
    graph = _graph(site, folder)
    states = survey(graph, folder, select(graph))
    return site.page(
        request, "runs", runs=list(known), run=folder.name, stages=[_row(folder, state) for state in states],
        pictures=_pictures(folder, states), pid=holder(folder) or 0,
    )  # fmt: skip


def _row(folder: Path, state: StageState) -> dict[str, Any]:
    made = state.manifest
    return {
        "state": state,
        "seconds": format_seconds(made.seconds) if made else "",
        "share": made.seconds if made else 0.0,
        "telling": headline(made.metrics, 2) if made else [],
        "has_curves": journal_of(folder, state.name) is not None,
    }


def _pictures(folder: Path, states: list[StageState]) -> list[tuple[str, Markup]]:
    """The lifecycle as the report draws it; none while a manifest is missing or damaged."""
    try:
        stages = gather(folder, [state.name for state in states if state.manifest is not None]).stages
    except TutelageError:
        return []
    if not stages:
        return []
    wide, middle = lifecycle.wide(stages, 1080, 5), lifecycle.wide(stages, 720, 3)
    return [("wide", Markup(wide)), ("middle", Markup(middle)), ("narrow", Markup(lifecycle.tall(stages)))]


def journal_of(folder: Path, stage: str) -> Path | None:
    """The journal of a stage that runs, else that of the finished one."""
    found = (partial_of(folder / stage) / JOURNAL, folder / stage / JOURNAL)
    return next((path for path in found if path.is_file()), None)


@ROUTER.get("/runs/stage")
def stage(request: Request, stage: str, run: str = "") -> Response:
    """One stage."""
    site = site_of(request)
    folder = run_of(site, run)
    graph = _graph(site, folder)
    if stage not in graph.order:
        raise HTTPException(404)
    state = next(state for state in survey(graph, folder, select(graph)) if state.name == stage)
    used_by = [name for name in graph.order if any(edge.producer == stage for edge in graph.edges[name])]
    return site.page(
        request, "stage", run=folder.name, state=state, made=state.manifest, edges=graph.edges[stage],
        used_by=used_by, settings=graph.recipe.stages[stage].model_dump(mode="json"),
        row=_row(folder, state), samples=_samples(folder, stage),
    )  # fmt: skip


def _samples(folder: Path, stage: str) -> list[dict[str, Any]]:
    from tutelage.evaluation.report.before_after import read_samples

    return [dict(row) for row in read_samples(folder / stage)][-6:][::-1]


@ROUTER.get("/runs/curves")
def curves(request: Request, stage: str, run: str = "") -> Response:
    """Every metric of a stage's journal as columns of steps and values, thinned without losing peaks."""
    site = site_of(request)
    folder = run_of(site, run)
    if stage not in _graph(site, folder).order:
        raise HTTPException(404)
    path = journal_of(folder, stage)
    rows = read_journal(path) if path else []
    running = partial_of(folder / stage).exists()
    return JSONResponse({"running": running, "rows": len(rows), "curves": picked(rows)})
