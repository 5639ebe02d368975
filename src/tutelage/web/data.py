"""Data: what curation removed and why, what other thresholds would remove, and rows with the tokens that are learnt."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tutelage.curation.recorded import Recorded, WhatIf, what_if
from tutelage.curation.rules import RULES
from tutelage.errors import DataError
from tutelage.evaluation.report.text import count, number, percent
from tutelage.run.artifacts import ArtifactType
from tutelage.web import decided
from tutelage.web.site import site_of
from tutelage.web.surveyed import Surveyed, runs_of, surveyed
from tutelage.web.training_rows import count_rows, read_row, sources_of

ROUTER = APIRouter()
PAGE = 10
LIMIT = "limit."  # begins the name of a field that holds another threshold
KEPT, REMOVED = "now-kept", "now-removed"


def has_decisions(run: Surveyed, stage: str) -> bool:
    """Whether a stage is a finished curation."""
    return run.states[stage].manifest is not None and (run.folder / stage / "decisions.parquet").is_file()


def rows_in(run: Surveyed, stage: str) -> bool:
    """Whether a stage has rows of tokens to look at."""
    return bool(sources_of(run, stage))


@ROUTER.get("/data")
def data(request: Request, run: str = "") -> Response:
    """What there is to look at in a run."""
    site = site_of(request)
    known = list(runs_of(site))
    if not known:
        return site.page(request, "data", runs=[], run="", curated=[], rows=[])
    found = surveyed(site, run)
    curated = [
        {"name": name, **_counts(decided.recorded_of(found, name))}
        for name in found.graph.order
        if has_decisions(found, name)
    ]
    rows = [
        {
            "stage": name,
            "kind": found.graph.spec_name(name),
            "source": source.name,
            "type": _TYPES[source.artifact.type],
            "from": source.artifact.name,
        }
        for name in found.graph.order
        for source in sources_of(found, name)
    ]
    return site.page(request, "data", runs=known, run=found.folder.name, curated=curated, rows=rows)


_TYPES = {
    ArtifactType.CONVERSATIONS: "conversations",
    ArtifactType.COMPLETIONS: "replies",
    ArtifactType.PREFERENCES: "pairs",
    ArtifactType.TOKENS: "tokens",
}


def _counts(recorded: Recorded) -> dict[str, Any]:
    looked = len(recorded.decisions)
    sampled = (
        f"an even sample of {count(looked)} of {count(recorded.total)} documents" if looked < recorded.total else ""
    )
    return {"all": looked, "kept": recorded.kept, "share": 100 * recorded.kept / max(looked, 1), "sampled": sampled,
            "kept_share": percent(recorded.kept / max(looked, 1)), "removed": recorded.removed()}  # fmt: skip


@ROUTER.get("/data/curation")
def curation(request: Request, stage: str, run: str = "") -> Response:
    """How many documents each rule removed, and how many it would remove at other thresholds."""
    site = site_of(request)
    found = surveyed(site, run)
    recorded = decided.recorded_of(found, stage)
    limits = _limits(request, recorded)
    other = what_if(recorded, limits) if limits else None
    removed, failed = recorded.removed(), _failed(recorded)
    rules = [_rule(name, recorded, limits, removed, failed, other) for name in recorded.settings.thresholds]
    busy = [row for row in rows_by_count(rules) if row["failed"] or row["other"] or row["name"] in limits]
    rest = [row for row in rules if row not in busy]
    extra = [
        (name, removed[name], decided.OTHERS[name], _then(other, name)) for name in decided.OTHERS if name in removed
    ]
    replaced = len(decided.chosen(recorded, decided.REPLACED))
    return site.page(
        request, "curation", run=found.folder.name, stage=stage, counts=_counts(recorded), busy=busy, rest=rest,
        extra=extra, replaced=replaced, other=other, all_pairs=recorded.all_pairs,
        change=other.kept - recorded.kept if other else 0, other_share=_width(other, recorded),
        asked=urlencode({LIMIT + name: value for name, value in limits.items()}),
    )  # fmt: skip


def rows_by_count(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rules that removed most first."""
    return sorted(rules, key=lambda row: (-row["removed"], -row["failed"]))


def _width(other: WhatIf | None, recorded: Recorded) -> float:
    return 100 * other.kept / max(len(recorded.decisions), 1) if other else 0.0


def _then(other: WhatIf | None, rule: str) -> int | None:
    return other.removed.get(rule, 0) if other else None


def _failed(recorded: Recorded) -> dict[str, int]:
    """Rule → documents that it would remove by itself, whichever rule came first."""
    found: dict[str, int] = {}
    for decision in recorded.decisions:
        for rule in decision["failed_rules"] or []:
            found[rule] = found.get(rule, 0) + 1
    return found


def _rule(
    name: str, recorded: Recorded, limits: dict[str, float], removed: dict[str, int], failed: dict[str, int],
    other: WhatIf | None,
) -> dict[str, Any]:  # fmt: skip
    rule, threshold = RULES[name], recorded.settings.thresholds[name]
    return {
        "name": name, "metric": rule.metric, "comparison": rule.comparison, "threshold": f"{threshold:g}",
        "value": f"{limits.get(name, threshold):g}", "changed": name in limits, "removed": removed.get(name, 0),
        "failed": failed.get(name, 0), "other": _then(other, name),
    }  # fmt: skip


def _limits(request: Request, recorded: Recorded) -> dict[str, float]:
    """Thresholds of the form that differ from those of the stage."""
    found = {}
    for field, text in request.query_params.multi_items():
        name = field.removeprefix(LIMIT)
        if not field.startswith(LIMIT) or not text.strip():
            continue
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or name not in recorded.settings.thresholds:
            raise DataError(f"{name[:60]}: {text[:40]!r} is no threshold", hint="write a number, such as 0.8")
        if value != recorded.settings.thresholds[name]:
            found[name] = value
    return found


@ROUTER.get("/data/documents")
def documents(request: Request, stage: str, rule: str = "", change: str = "", page: int = 1, run: str = "") -> Response:
    """Documents that a rule removed, or that would change sides at other thresholds: with the reason, marked."""
    site = site_of(request)
    found = surveyed(site, run)
    recorded = decided.recorded_of(found, stage)
    limits = _limits(request, recorded)
    if change in (KEPT, REMOVED):
        other = what_if(recorded, limits)
        which = list(other.now_kept if change == KEPT else other.now_removed)
        title = "would be kept" if change == KEPT else "would be removed"
        now = [other.decisions[at] for at in which]
    else:
        which, title, now = decided.chosen(recorded, rule), rule.replace("_", " "), []
    pages = max(1, math.ceil(len(which) / PAGE))
    if not 1 <= page <= pages:
        raise HTTPException(404)
    part = slice((page - 1) * PAGE, page * PAGE)
    shown = decided.shown(found, stage, recorded, which[part])
    for one, decision in zip(shown, now[part], strict=False):
        one["now"] = "kept" if decision.kept else f"{decision.rule}: {number(decision.value)}"
    asked = {"run": found.folder.name, "stage": stage, "rule": rule, "change": change}
    link = "/data/documents?" + urlencode(
        {k: v for k, v in asked.items() if v} | {LIMIT + k: v for k, v in limits.items()}
    )
    return site.page(
        request, "documents", run=found.folder.name, stage=stage, title=title, total=len(which), page=page, pages=pages,
        shown=shown, link=link, back=urlencode({LIMIT + k: v for k, v in limits.items()}), about=_about(rule),
    )  # fmt: skip


def _about(rule: str) -> str:
    if rule in RULES:
        side = "above" if RULES[rule].comparison == ">" else "below"
        return f"Removed where {RULES[rule].metric} is {side} its threshold."
    text = decided.OTHERS.get(rule, "")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


@ROUTER.get("/data/rows")
def rows(request: Request, stage: str, source: str = "", row: int = 1, run: str = "") -> Response:
    """One row of a stage as the model sees it: tokens apart from each other, those that are learnt marked."""
    site = site_of(request)
    found = surveyed(site, run)
    found.stage(stage)
    sources = {one.name: one for one in sources_of(found, stage)}
    if not sources or (source and source not in sources):
        raise HTTPException(404)
    chosen = sources[source] if source else next(iter(sources.values()))
    total = count_rows(chosen)
    if not 1 <= row <= total:
        raise DataError(f"there is no row {row}", hint=f"{chosen.artifact.name} has the rows 1 to {total}")
    read = read_row(chosen, row - 1)
    strips = read.strips
    tokens, trained = sum(len(strip.tokens) for strip in strips), sum(strip.trained for strip in strips)
    asked = urlencode({"run": found.folder.name, "stage": stage, "source": chosen.name})
    return site.page(
        request, "rows", run=found.folder.name, stage=stage, sources=list(sources), source=chosen.name, row=row,
        total=total, strips=strips, tokens=tokens, trained=trained, share=percent(trained / max(tokens, 1)),
        link=f"/data/rows?{asked}", type=_TYPES[chosen.artifact.type], origin=chosen.artifact.name,
        packed=chosen.artifact.type == ArtifactType.TOKENS and bool(chosen.context),
        dropped=read.left_out,
    )  # fmt: skip
