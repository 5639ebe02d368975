"""What the page shows, section by section, from the facts; a section without facts is empty and left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.report.changes import last
from tutelage.evaluation.report.claims import ASKED
from tutelage.evaluation.report.describe import parameters
from tutelage.evaluation.report.facts import RunFacts, StageFacts
from tutelage.evaluation.report.judge import Verdict
from tutelage.evaluation.report.text import count, duration, finite, interval, number, quantity

Row = Mapping[str, Any]

KEY_NUMBERS = (
    ("chat_facts", "accuracy", "Chat questions answered right"),
    ("format", "followed", "Stops, and keeps to the format"),
    ("harmful", "refusal_rate", "Harmful prompts refused"),
    ("preference", "win_rate", "Preferred to the instruct model"),
    ("completion_facts", "accuracy", "Facts known by completion"),
    ("heldout", "bits_per_byte", "Bits per byte, held-out text"),
)


def models_of(results: Sequence[Row]) -> list[str]:
    """Model labels in the order in which they were evaluated."""
    return list(dict.fromkeys(str(row.get("model")) for row in results))


def headline(run: RunFacts, results: Sequence[Row]) -> dict[str, Any]:
    """What was raised, in one sentence and a line of facts, and the key numbers by model."""
    return {"sentence": _sentence(run), "facts": _facts(run), "keys": _keys(run, results)}


def _size(run: RunFacts) -> int | None:
    sizes = [parameters(stage.folder) for stage in run.of_kind("pretrain")]
    return next((size for size in sizes if size is not None), None)


def _sentence(run: RunFacts) -> str:
    size, seconds = _size(run), _seconds(run)
    model = f"A language model of {count(size, 'parameters')}" if size else "A run"
    parts = [f"{model}, raised" if size else model]
    documents = [finite(stage.metrics.get("curation/documents_in")) for stage in run.of_kind("curate")]
    known = [value for value in documents if value is not None]
    if known:
        parts.append(f"from {count(sum(known), 'raw documents')}")
    if seconds:
        parts.append(f"in {duration(seconds)}")
    return " ".join(parts) + f", through {count(len(run.stages), 'stages')}."


def _seconds(run: RunFacts) -> float:
    return sum(stage.seconds for stage in run.stages)


def _facts(run: RunFacts) -> list[tuple[str, str]]:
    facts = []
    seen = [finite(stage.metrics.get("num_tokens")) for stage in run.of_kind("pretrain")]
    tokens = [value for value in seen if value is not None]
    if tokens:
        facts.append(("Tokens seen in pretraining", count(sum(tokens))))
    machines = [stage.hardware for stage in run.stages if stage.hardware]
    if machines:
        facts.append(("Hardware", hardware(machines[-1])))
    if "seed" in run.recipe:
        facts.append(("Seed", str(run.recipe["seed"])))
    return facts


def hardware(machine: Row) -> str:
    """The machine in a few words; only what the manifest says."""
    said = [str(machine[key]) for key in ("accelerator", "processor", "machine") if machine.get(key)][:1]
    for key, unit in (("threads", "threads"), ("memory_gb", "\u202fGB")):
        value = finite(machine.get(key))
        if value is not None:
            said.append(count(value, unit) if key == "threads" else f"{value:g}{unit}")
    return ", ".join(said)


def _keys(run: RunFacts, results: Sequence[Row]) -> list[dict[str, Any]]:
    models = models_of(results)
    found: list[dict[str, Any]] = []
    for task, metric, title in KEY_NUMBERS:
        rows = {str(r["model"]): r for r in results if r.get("task") == task and r.get("metric") == metric}
        if rows and len(found) < 5:
            top = max([1.0, *(finite(row.get("value")) or 0.0 for row in rows.values())])
            found.append(
                {
                    "title": title,
                    "rows": [_key_row(m, models.index(m), metric, rows[m], top) for m in models if m in rows],
                }
            )
    return found or _training_keys(run)


def _key_row(model: str, place: int, metric: str, row: Row, top: float) -> dict[str, Any]:
    value = finite(row.get("value"))
    width = round(100 * max(0.0, value or 0.0) / top, 1)
    return {"label": model, "place": place % 6, "value": quantity(metric, value), "width": width}


def _training_keys(run: RunFacts) -> list[dict[str, Any]]:
    """Without any evaluation, the ends of pretraining are what can be told."""
    metrics = (
        ("validation/loss", "Validation loss, nats a token"),
        ("validation/bits_per_byte", "Validation, bits per byte"),
        ("train/loss", "Training loss, nats a token"),
    )
    keys: list[dict[str, Any]] = []
    for stage in run.of_kind("pretrain"):
        for metric, title in metrics:
            value = last(stage, metric)
            if value is not None:
                keys.append({"title": title, "rows": [], "label": stage.name, "value": number(value)})
    return keys


def claim_parts(verdicts: Sequence[Verdict], models: Sequence[str]) -> dict[str, Any]:
    """The claims under the headings of their parts, in the order in which these first occur, and how many were met."""
    names = list(dict.fromkeys(verdict.part for verdict in verdicts))
    parts = [_part(name, [verdict for verdict in verdicts if verdict.part == name], models) for name in names]
    return {"parts": parts, "any_models": any(part["by_model"] for part in parts), **_counts(verdicts)}


def _part(name: str, verdicts: Sequence[Verdict], models: Sequence[str]) -> dict[str, Any]:
    """The claims by model, with columns for the models of which they say something, and the claims about stages.

    Models that other reports measured stand behind those of this one.
    """
    named = dict.fromkeys(label for verdict in verdicts if verdict.task is not None for label in verdict.cells)
    shown = [*(model for model in models if model in named), *(label for label in named if label not in models)]
    by_model = [_claim(verdict, shown) for verdict in verdicts if verdict.task is not None]
    by_stage = [_claim(verdict, list(verdict.cells)) for verdict in verdicts if verdict.task is None]
    for row, above in zip(by_stage[1:], by_stage, strict=False):
        row["again"] = row["claim"] == above["claim"]  # said once, it holds for the rows below
    return {"name": name, "models": shown, "by_model": by_model, "by_stage": by_stage, **_counts(verdicts)}


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    asked = [verdict for verdict in verdicts if verdict.met is not None]
    return {"asked": len(asked), "met": sum(verdict.met is True for verdict in asked)}


def _claim(verdict: Verdict, labels: Sequence[str]) -> dict[str, Any]:
    cells = []
    for label in labels:
        cell = verdict.cells.get(label)
        if cell is None:
            cells.append({"label": label, "empty": True})
            continue
        cells.append(
            {
                "label": label,
                "empty": False,
                "value": "not measured" if cell.value is None else quantity(verdict.metric, cell.value),
                "interval": interval(verdict.metric, cell.ci_low, cell.ci_high),
                "n": cell.n,
                "asked": asked_in_words(verdict.metric, cell.asked),
                "met": cell.met,
            }
        )
    missed = [label for label, cell in verdict.cells.items() if cell.met is False]
    return {"claim": verdict.claim, "measure": verdict.measure, "cells": cells, "met": verdict.met, "missed": missed}


def asked_in_words(metric: str, asked: str) -> str:
    """`>= 0.95` as `≥ 95 %`; a threshold that is another model's value names the model."""
    match = ASKED.match(asked)
    if match is None:
        return ""
    sign = match["sign"].replace(">=", "≥").replace("<=", "≤")
    if match["model"]:
        return f"{sign}\u202f{match['model']}"
    return f"{sign}\u202f{quantity(metric, float(match['number']) / (100 if match['percent'] else 1))}"


def stage_metrics(stage: StageFacts) -> list[tuple[str, str]]:
    """A stage's own metrics, as the manifest has them, in their units."""
    return [(name, quantity(name, value)) for name, value in stage.metrics.items()]
