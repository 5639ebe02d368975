"""The page and its data: one self-contained HTML file that needs no script and loads nothing, and `report.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tutelage.evaluation.report import lifecycle, view
from tutelage.evaluation.report.audit import audit
from tutelage.evaluation.report.before_after import before_after, by_prompt
from tutelage.evaluation.report.changes import changed
from tutelage.evaluation.report.charts import figures
from tutelage.evaluation.report.curated import curated
from tutelage.evaluation.report.curves import line_chart
from tutelage.evaluation.report.facts import InputFact, RunFacts, StageFacts, unfinished
from tutelage.evaluation.report.judge import Verdict
from tutelage.evaluation.report.method_tables import as_data, tables
from tutelage.evaluation.report.methods import compare, other_seeds, repeats
from tutelage.evaluation.report.panels import probes
from tutelage.evaluation.report.replies import side_by_side
from tutelage.evaluation.report.text import bytes_size, clean, duration

HERE = Path(__file__).parent
PALETTE = HERE / "palette.css"  # colours and fonts, for the pages of `tutelage serve` too
TITLES = {  # the sections in their order, by anchor
    "lifecycle": "From raw documents to this page",
    "claims": "What was claimed, and what was measured",
    "methods": "Methods side by side",
    "samples": "The same prompts, every model",
    "before-after": "Before and after training",
    "audit": "What the constitution changed, and why",
    "curves": "How training went",
    "curation": "What curation removed, and why",
    "probes": "Probes",
    "stages": "Every stage",
    "again": "Where it ran, and how to run it again",
}
FOLDINGS = {"stages": 40, "curves": 12}  # of more than so many the pictures are folded


@dataclass(frozen=True)
class Report:
    """Everything the page is made of."""

    title: str
    run: RunFacts
    results: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]
    verdicts: Sequence[Verdict]
    name: str  # the stage that writes the report, and what it was given
    inputs: Sequence[InputFact]


def render(report: Report) -> str:
    """The page as HTML; whatever came from data or models is escaped as text."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    context = _context(report)
    page = environment.get_template("page.html.jinja")
    return page.render(context, contents=_contents(context), titles=TITLES, foldings=FOLDINGS) + "\n"


def _contents(context: Mapping[str, Any]) -> list[str]:
    """Anchors of the sections that have something to show."""
    filled = {
        **context,
        "lifecycle": context["pictures"],
        "claims": context["claims"]["parts"],
        "samples": context["samples"]["first"],
        "before-after": context["before_after"],
        "audit": context["audits"],
        "again": context["stages"],
    }
    return [anchor for anchor in TITLES if filled[anchor]]


def _printable(value: Any) -> Any:
    # Markup is made here from escaped parts; every other string may hold control characters from a model
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _context(report: Report) -> dict[str, Any]:
    run, again = report.run, repeats(report.run.stages, report.results)
    failed = {label for verdict in report.verdicts for label, cell in verdict.cells.items() if cell.met is False}
    hidden = other_seeds(run.stages, report.results) - failed
    # one seed of each method is shown at length; the others stand in the table of methods and under every stage
    shown = replace(run, stages=[stage for stage in run.stages if stage.name not in again])
    results = [row for row in report.results if str(row.get("model")) not in hidden]
    models = view.models_of(results)
    sections = [content for stage in run.of_kind("curate") if (content := curated(stage)) is not None]
    return {
        "style": Markup("".join(path.read_text(encoding="utf-8") for path in (PALETTE, HERE / "style.css"))),
        "title": report.title,
        "headline": view.headline(run, results),
        "pictured": len(shown.stages) + 1,
        "pictures": _pictures(shown, unfinished(report.name, report.inputs)),
        "claims": view.claim_parts(report.verdicts, models),
        "methods": [tables(comparison) for comparison in compare(run.stages, report.results)],
        "samples": side_by_side(report.samples, models, hidden),
        "before_after": [
            (stage.name, stage.stage, kept) for stage in shown.stages if (kept := before_after(stage.samples))
        ],
        "audits": [found for stage in shown.of_kind("revise") if (found := audit(stage)) is not None],
        "curves": [(stage.name, stage.stage, drawn) for stage in shown.stages if (drawn := _curves(stage))],
        "curation": sections,
        "probes": [{**panel, "picture": Markup(panel["picture"])} for panel in probes(results, report.verdicts)],
        "stages": [_stage(stage) for stage in run.stages],
        "longest": max((stage.seconds for stage in run.stages), default=0.0) or 1.0,
        "total": duration(sum(stage.seconds for stage in run.stages)),
        "machines": _distinct([stage.hardware for stage in run.stages]),
        "versions": _distinct([stage.versions for stage in run.stages]),
        "commands": commands(shown),
    }


def _pictures(run: RunFacts, report: StageFacts) -> list[tuple[str, Markup]]:
    if not run.stages:
        return []
    stages = [*run.stages, report]
    return [
        ("wide", Markup(lifecycle.wide(stages, 1080, 5))),
        ("middle", Markup(lifecycle.wide(stages, 720, 3))),
        ("narrow", Markup(lifecycle.tall(stages))),
    ]


def _curves(stage: StageFacts) -> list[dict[str, Any]]:
    return [
        {"title": figure.chart.title, "picture": Markup(line_chart(figure.chart)), "remark": figure.remark}
        for figure in figures(stage)
    ]


def _stage(stage: StageFacts) -> dict[str, Any]:
    return {
        "name": stage.name,
        "stage": stage.stage,
        "seconds": stage.seconds,
        "duration": duration(stage.seconds),
        "changed": changed(stage),
        "metrics": view.stage_metrics(stage),
        "inputs": stage.inputs,
        "fingerprint": stage.fingerprint,
        "bytes": bytes_size(sum(output["bytes"] for output in stage.outputs)),
        "files": len(stage.outputs),
        "notes": stage.notes,
    }


def _distinct(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Each different description once: a run that went on elsewhere has two machines."""
    return [row for i, row in enumerate(rows) if row and row not in rows[:i]]


def commands(run: RunFacts) -> list[tuple[str, str]]:
    """What to type next, and why; only for what the run folder holds."""
    place = f"{run.folder.parent.name}/{run.folder.name}" if run.folder.parent.name else run.folder.name
    found = []
    if (run.folder / "recipe.yaml").exists():
        found.append(("the same run again, every default written out", f"tutelage run {place}/recipe.yaml"))
    models = [
        stage.name for stage in run.of_kind("pretrain", "sft", "distill", "ppo", "grpo", "rloo", "dpo", "kto", "orpo")
    ]
    if len(models) > 1:
        paths = " ".join(f"{place}/{name}" for name in models)
        found.append(("the same prompts through its models", f"tutelage compare {paths}"))
    if models and len(models) > 1:
        found.append(("talk to the last one", f"tutelage chat {place}/{models[-1]}"))
    elif models:
        found.append(("let it go on from a prompt", f'tutelage complete {place}/{models[0]} "Once upon a time"'))
    if run.stages:
        found.append(("where everything came from", f"tutelage lineage {place}"))
    return found


def as_json(report: Report) -> dict[str, Any]:
    """The content of `report.json`; numbers that are not finite are strings, as in journals."""
    run = report.run
    document = {
        "title": report.title,
        "recipe": dict(run.recipe),
        "results": [dict(row) for row in report.results],
        "claims": [{**asdict(verdict), "met": verdict.met} for verdict in report.verdicts],
        "methods": [as_data(comparison) for comparison in compare(run.stages, report.results)],
        "stages": [
            {
                "name": stage.name,
                "stage": stage.stage,
                "seconds": stage.seconds,
                "inputs": [asdict(given) for given in stage.inputs],
                "metrics": dict(stage.metrics),
                "outputs": [dict(output) for output in stage.outputs],
                "changed": changed(stage),
                "notes": list(stage.notes),
                "samples": by_prompt(stage.samples),
            }
            for stage in run.stages
        ],
        "lineage": {
            stage.name: {"fingerprint": stage.fingerprint, "from": [given.artifact for given in stage.inputs]}
            for stage in run.stages
        },
        "hardware": _distinct([stage.hardware for stage in run.stages]),
        "versions": _distinct([stage.versions for stage in run.stages]),
    }
    plain: dict[str, Any] = _plain(document)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean(str(value))
