"""Runs: the stages of a run with their state, what one was made from and made, and its curves while it trains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from markupsafe import Markup
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from tutelage.errors import ArtifactError
from tutelage.evaluation.report import lifecycle
from tutelage.evaluation.report.before_after import before_after, read_samples
from tutelage.evaluation.report.boxes import Mark
from tutelage.evaluation.report.facts import InputFact, StageFacts, read_stage
from tutelage.evaluation.report.text import as_float, bytes_size, duration, finite, number, quantity
from tutelage.run.files import digest
from tutelage.run.manifest import MANIFEST, Manifest
from tutelage.run.metrics import telling
from tutelage.web.claimed import claims_of
from tutelage.web.curves import Tail, ends, picked, read_branches, read_tail
from tutelage.web.site import site_of
from tutelage.web.surveyed import SIGNS, Surveyed, journal_of, runs_of, surveyed

ROUTER = APIRouter()


AGAIN = {"HX-Refresh": "true"}  # asks htmx to load the page anew


@ROUTER.get("/runs")
def runs(request: Request, run: str = "", seen: str = "") -> Response:
    """All stages with their state; a page that has `seen` other states is told to load itself anew."""
    site = site_of(request)
    known = list(runs_of(site))
    if not known:
        return site.page(request, "runs", runs=[], run="")
    found = surveyed(site, run)
    rows = [_row(found, name) for name in found.graph.order]
    states = digest([found.state_of(name) for name in found.graph.order])[:12]
    if seen and seen != states:
        return Response(headers=AGAIN)
    return site.page(
        request, "runs", runs=known, run=found.folder.name, description=found.graph.recipe.description or "",
        rows=rows, resources=_resources(found), pictures=_pictures(found), now=_now(found), signs=SIGNS, seen=states,
    )  # fmt: skip


def _row(run: Surveyed, name: str) -> dict[str, Any]:
    """A line of the table; the bars are shares of the longest time and the most memory of all stages."""
    state = run.states[name]
    made = [one.manifest for one in run.states.values() if one.manifest is not None]
    most = {
        "seconds": max((one.seconds for one in made), default=0),
        "peak": max((one.peak_memory or 0 for one in made), default=0),
    }
    own = state.manifest
    return {
        "name": name,
        "stage": state.stage,
        "state": run.state_of(name),
        "reason": "" if name == run.running else state.reason,
        "time": duration(own.seconds) if own else "",
        "time_share": _share(own.seconds if own else 0, most["seconds"]),
        "memory": bytes_size(own.peak_memory) if own and own.peak_memory else "",
        "memory_share": _share(own.peak_memory or 0 if own else 0, most["peak"]),
        "telling": _all_measured(own.metrics)[:2] if own else [],
    }


def _share(value: float, most: float) -> float:
    return round(100 * value / most, 1) if most else 0.0


def _resources(run: Surveyed) -> list[tuple[str, str]]:
    """What the whole run took, as its manifests say."""
    made = [state.manifest for state in run.states.values() if state.manifest is not None]
    if not made:
        return []
    last = max(made, key=lambda one: one.finished)
    peaks = [one.peak_memory for one in made if one.peak_memory]
    size = sum(output.bytes for one in made for output in one.outputs)
    told = [("Time of finished stages", duration(sum(one.seconds for one in made)))]
    told += [("Most memory", bytes_size(max(peaks)))] if peaks else []
    told += [("On disk", bytes_size(size)), ("Threads", str(last.threads))]
    processor = str(last.hardware.get("processor", ""))
    return [*told, *([("Processor", processor)] if processor else [])]


def _now(run: Surveyed) -> dict[str, Any] | None:
    """How far the stage is that a process works on; None where nothing runs."""
    if not run.pid:
        return None
    journal = journal_of(run, run.running) if run.running else None
    first, last = ends(journal) if journal else ({}, {})
    steps = getattr(run.graph.recipe.stages[run.running], "num_steps", None) if run.running else None
    step = int(last.get("step", 0))
    told = [(name, quantity(name, finite(value))) for name, value in last.items() if name in _WHILE_RUNNING]
    if isinstance(steps, int) and first and step > first["step"]:
        pace = (last["time"] - first["time"]) / (step - first["step"])
        told.append(("left", f"about {duration(max(steps - step, 0) * pace)}"))
    return {
        "stage": run.running,
        "pid": run.pid,
        "step": step,
        "steps": steps if isinstance(steps, int) else None,
        "told": told,
    }


_WHILE_RUNNING = ("train/loss", "validation/loss", "objective/scores", "rewards/margins", "tokens_per_second")


def _pictures(run: Surveyed) -> list[tuple[str, Markup]]:
    """The lifecycle as the report draws it, of all stages, each a link, for wide and narrow screens."""
    stages = [_facts(run, name) for name in run.graph.order]
    marks = {name: _mark(run, name) for name in run.graph.order}
    wide, middle = lifecycle.wide(stages, 1080, 5, marks), lifecycle.wide(stages, 720, 3, marks)
    return [("wide", Markup(wide)), ("middle", Markup(middle)), ("narrow", Markup(lifecycle.tall(stages, marks=marks)))]


def _mark(run: Surveyed, name: str) -> Mark:
    state = run.state_of(name)
    return Mark(f"/runs/stage?{urlencode({'run': run.folder.name, 'stage': name})}", state, SIGNS[state])


def _facts(run: Surveyed, name: str) -> StageFacts:
    state = run.states[name]
    given = [InputFact(edge.field, edge.reference, "") for edge in run.graph.edges[name]]
    folder = run.folder / name
    if state.manifest is not None:
        try:
            return _read_stage(folder, (folder / MANIFEST).stat().st_mtime_ns)
        except (ArtifactError, OSError):
            pass  # damaged: it is drawn like one that has not run, and its state says why
    return StageFacts(name, state.stage, folder, 0, given, "", {}, [], 0.0, {}, {}, [], [], [])


@lru_cache(maxsize=256)
def _read_stage(folder: Path, changed: int) -> StageFacts:
    return read_stage(folder)


@ROUTER.get("/runs/stage")
def stage(request: Request, stage: str, run: str = "", seen: str = "") -> Response:
    """One stage; a page that has `seen` it in another state is told to load itself anew."""
    site = site_of(request)
    found = surveyed(site, run)
    state = found.stage(stage)
    if seen and seen != found.state_of(stage):
        return Response(headers=AGAIN)
    made = state.manifest
    config = found.graph.recipe.stages[stage]
    return site.page(
        request, "stage", run=found.folder.name, row=_row(found, stage), made=made, signs=SIGNS,
        now=_now(found) if stage == found.running else None, inputs=_inputs(found, stage), used_by=found.used_by(stage),
        facts=_told(made) if made else [], own=_flat(config, exclude_defaults=True), every=_flat(config),
        outputs=[(one.path, bytes_size(one.bytes), one.sha256) for one in made.outputs] if made else [],
        measured=_all_measured(made.metrics) if made else [],
        has_curves=journal_of(found, stage) is not None, samples=_samples(found, stage),
        claims=claims_of(found, stage), doors=_doors(found, stage),
    )  # fmt: skip


def _told(made: Manifest) -> list[tuple[str, str]]:
    """What a manifest says of the making."""
    rows = [
        ("Time", duration(made.seconds)),
        ("Most memory", bytes_size(made.peak_memory) if made.peak_memory else "not measured"),
        ("On disk", bytes_size(sum(output.bytes for output in made.outputs))),
        ("Threads", str(made.threads)),
        ("Seed", str(made.seed)),
        ("Attempts", str(made.attempts)),
        ("Finished", made.finished[:16].replace("T", " ") + " UTC"),
    ]
    return [*rows, ("Processor", str(made.hardware.get("processor") or "unknown"))]


def _all_measured(metrics: Mapping[str, float | str]) -> list[tuple[str, str]]:
    """(name, value in its unit), the most telling first."""
    return [(name, _measured(name, as_float(metrics[name]))) for name in telling(metrics)]


def _measured(name: str, value: float | None) -> str:
    """In its unit; a count under a share's name (`curation/kept`) is told as a number."""
    return number(value) if value is None or abs(value) > 1 else quantity(name, value)


def _inputs(run: Surveyed, stage: str) -> list[dict[str, Any]]:
    """What a stage takes: the artifact as it was when it was used, and whether it has been made anew since."""
    made = run.states[stage].manifest
    found = []
    for edge in run.graph.edges[stage]:
        record = made.inputs.get(edge.field) if made else None
        producer = run.states[edge.producer].manifest
        now = producer.artifacts[edge.output].fingerprint if producer and edge.output in producer.artifacts else ""
        used = record.fingerprint if record else ""
        found.append({"edge": edge, "fingerprint": used or now, "replaced": bool(used and now and used != now)})
    return found


def _flat(config: BaseModel, exclude_defaults: bool = False) -> list[tuple[str, str]]:
    """Settings by their dotted names."""
    rows: list[tuple[str, str]] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(f"{name}.{key}" if name else str(key), item)
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((name, "not set" if value in (None, []) else shown))

    walk("", config.model_dump(mode="json", exclude_defaults=exclude_defaults))
    return [row for row in rows if row[0] != "stage"]


def _samples(run: Surveyed, stage: str) -> dict[str, Any]:
    try:
        return before_after(read_samples(run.place_of(stage)))
    except ArtifactError:
        return {}  # half a line while it is written: it is whole the next time


def _doors(run: Surveyed, stage: str) -> list[tuple[str, str]]:
    """Other pages about this stage."""
    from tutelage.web.data import has_decisions, rows_in

    asked = urlencode({"run": run.folder.name, "stage": stage})
    doors = [("Curation decisions", f"/data/curation?{asked}")] if has_decisions(run, stage) else []
    doors += [("Rows with their masks", f"/data/rows?{asked}")] if rows_in(run, stage) else []
    return [*doors, *([("Report", f"/report?{asked}")] if (run.folder / stage / "report.html").is_file() else [])]


@ROUTER.get("/runs/curves")
def curves(request: Request, stage: str, run: str = "", cursor: str = "") -> Response:
    """Metrics of a stage's journal as columns, thinned without losing peaks; with a cursor, what came since."""
    found = surveyed(site_of(request), run)
    found.stage(stage)
    path = journal_of(found, stage)
    tail = read_tail(path, cursor) if path else Tail([], "", True)
    branches = read_branches(path) if path and tail.fresh else []
    return JSONResponse(
        {
            "running": stage == found.running,
            "cursor": tail.cursor,
            "fresh": tail.fresh,
            "curves": picked(tail.rows, branches),
        }
    )
