"""The methods as two tables, what was reached and what it took, and as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.report.methods import Comparison, Cost, Measure, Method, Spread
from tutelage.evaluation.report.text import bytes_size, count, duration, interval, number, quantity

COLUMNS: Mapping[Measure, str] = {
    ("preference", "win_rate"): "Preferred",
    ("harmful", "refusal_rate"): "Harmful refused",
    ("lookalike", "refusal_rate"): "Look-alikes refused",
    ("chat_facts", "accuracy"): "Facts in chat",
    ("heldout", "bits_per_byte"): "Bits per byte",
    ("kl", "nats"): "KL, nats a reply",
}


def tables(comparison: Comparison) -> dict[str, Any]:
    """The rows and columns of both tables; a measure of which nothing is known has no column."""
    methods = comparison.methods
    known = [measure for measure in COLUMNS if any(measure in method.reached for method in methods)]
    start = {"name": comparison.start, "about": "where they start"}
    before = [{**start, "cells": _reached(comparison.before, known, 1)}] if comparison.before else []
    return {
        "start": comparison.start,
        "seeds": max(len(method.labels) for method in methods),
        "repeated": [label for method in methods for label in method.labels[1:]],
        "columns": [COLUMNS[measure] for measure in known],
        "reached": before + [{**_named(m), "cells": _reached(m.reached, known, len(m.labels))} for m in methods],
        "took": [{**_named(method), "cells": _took(method.cost)} for method in methods],
    }


def _named(method: Method) -> dict[str, str]:
    kind = method.stage if method.stage != method.name else ""
    seeds = count(len(method.seeds), "seeds") if len(method.seeds) > 1 else ""
    return {"name": method.name, "about": ", ".join(part for part in (kind, seeds) if part)}


def _reached(reached: Mapping[Measure, Spread], known: Sequence[Measure], seeds: int) -> list[dict[str, str]]:
    cells = []
    for measure in known:
        spread = reached.get(measure)
        if spread is None:
            cells.append(_cell(COLUMNS[measure], "–"))
            continue
        ends = (min(spread.values), max(spread.values)) if seeds > 1 else spread.interval
        cells.append(_cell(COLUMNS[measure], quantity(measure[1], spread.mean), interval(measure[1], *ends)))
    return cells


def _took(cost: Cost) -> list[dict[str, str]]:
    needs = [f"+ {duration(seconds)} {name}" for name, seconds in cost.needs.items()]
    parameters = "" if cost.parameters is None else count(cost.parameters, "parameters")
    return [
        _cell("Time", ("≥ " if cost.resumed else "") + duration(cost.seconds), ", ".join(needs)),
        _cell("Peak memory", "–" if cost.peak_memory is None else bytes_size(cost.peak_memory)),
        _cell("Models in memory", number(cost.models), parameters),
        _cell("Tokens drawn", "–" if cost.generated_tokens is None else count(cost.generated_tokens)),
        _cell("Settings of its own", str(len(cost.settings))),
    ]


def _cell(label: str, value: str, below: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "below": below}


def as_data(comparison: Comparison) -> dict[str, Any]:
    """The comparison as `report.json` has it."""
    return {
        "start": comparison.start,
        "before": {"/".join(measure): spread.mean for measure, spread in comparison.before.items()},
        "methods": [
            {
                "name": method.name,
                "stage": method.stage,
                "models": list(method.labels),
                "seeds": list(method.seeds),
                "reached": {
                    "/".join(measure): {"mean": spread.mean, "deviation": spread.deviation, "values": spread.values}
                    for measure, spread in method.reached.items()
                },
                "cost": vars(method.cost),
            }
            for method in comparison.methods
        ],
    }
