"""The probes: one panel a measure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.report.curves import Chart, Line, line_chart
from tutelage.evaluation.report.dots import Dot, dot_plot
from tutelage.evaluation.report.judge import Verdict
from tutelage.evaluation.report.text import MEASURES, count, finite
from tutelage.evaluation.report.view import models_of

Row = Mapping[str, Any]
ACROSS = {"after": "turns"}
_BY_NUMBER = re.compile(r"(\w+)_(\d+)/(\w+)")  # after_6/recall: the metric, and the number by which it is drawn

PROBES = {
    "completion_facts": "Knowledge",
    "grammar": "Grammar",
    "reasoning": "Reasoning",
    "languages": "Languages",
    "code": "Code",
    "arithmetic": "Arithmetic",
    "register": "Register",
    "privacy": "Privacy",
    "heldout": "Held-out text",
}


def probes(results: Sequence[Row], verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Panels of the probes in their order, then of every other result that no claim shows: nothing is hidden."""
    models = models_of(results)
    pairs = list(dict.fromkeys((str(r.get("task")), str(r.get("metric"))) for r in results))
    judged = {(verdict.task, verdict.metric) for verdict in verdicts}
    order = list(PROBES)
    chosen = [pair for pair in pairs if pair[0] in PROBES or pair not in judged]
    chosen = [pair for pair in chosen if not _BY_NUMBER.fullmatch(pair[1])]
    chosen.sort(key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))
    return [_panel(task, metric, results, models) for task, metric in chosen] + _by_number(pairs, results, models)


def _by_number(pairs: Sequence[tuple[str, str]], results: Sequence[Row], models: Sequence[str]) -> list[dict[str, Any]]:
    """One curve a model for the metrics of a task that differ in a number alone: recall by the turns between."""
    found = [(task, match) for task, metric in pairs if (match := _BY_NUMBER.fullmatch(metric))]
    panels = []
    for task, word, metric in dict.fromkeys((task, match[1], match[3]) for task, match in found):
        lines = []
        for model in models:
            points = [
                (float(match[2]), value)
                for row in results
                if row.get("model") == model and row.get("task") == task
                if (match := _BY_NUMBER.fullmatch(str(row.get("metric")))) and (match[1], match[3]) == (word, metric)
                if (value := finite(row.get("value"))) is not None
            ]
            lines += [Line(model, metric, sorted(points))] if points else []
        title = task.replace("_", " ").capitalize()
        picture = line_chart(Chart(f"{title}: {metric} by model", lines, word)) if lines else ""
        panels.append(
            {
                "title": title,
                "measure": f"{MEASURES.get(metric, metric)}, by {ACROSS.get(word, word)}",
                "n": "",
                "picture": picture,
            }
        )
    return panels


def _panel(task: str, metric: str, results: Sequence[Row], models: Sequence[str]) -> dict[str, Any]:
    rows = [row for row in results if str(row.get("task")) == task and str(row.get("metric")) == metric]
    sizes = sorted({int(n) for n in (finite(row.get("n")) for row in rows) if n is not None})
    title = PROBES.get(task, task.replace("_", " ").capitalize())
    measure = MEASURES.get(metric, metric.replace("_", " "))
    dots = [
        Dot(
            str(row["model"]),
            models.index(str(row["model"])),
            finite(row.get("value")),
            finite(row.get("ci_low")),
            finite(row.get("ci_high")),
        )
        for row in rows
    ]
    n = f"n = {count(sizes[0])}" if len(sizes) == 1 else f"n = {count(sizes[0])}–{count(sizes[-1])}" if sizes else ""
    picture = dot_plot(f"{title}: {measure} by model", metric, dots)
    return {"title": title, "measure": measure, "n": n, "picture": picture}
