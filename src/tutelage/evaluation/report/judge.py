"""The judgement of claims: what was measured, what was asked, whether it was met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

from tutelage.evaluation.report.claims import ASKED, Claim
from tutelage.evaluation.report.facts import StageFacts
from tutelage.evaluation.report.text import finite


@dataclass(frozen=True)
class Cell:
    """One measured value of a claim; `met` is None where nothing was asked."""

    value: float | None
    n: int | None
    ci_low: float | None
    ci_high: float | None
    asked: str
    met: bool | None


@dataclass(frozen=True)
class Verdict:
    """A claim with its cells: by model label, or by stage name."""

    claim: str
    measure: str
    task: str | None
    stage: str | None
    metric: str
    cells: Mapping[str, Cell]
    part: str = ""

    @property
    def met(self) -> bool | None:
        """Whether everything asked was met; None where nothing was asked."""
        answers = [cell.met for cell in self.cells.values() if cell.met is not None]
        return all(answers) if answers else None


def meets(value: float | None, asked: str, others: Mapping[str, float | None] = MappingProxyType({})) -> bool:
    """Whether a value satisfies a threshold such as `>= 0.9`, `<= 5%`, or `> alone`; no value never does.

    `others` are the values of all models, for thresholds that name one.
    """
    match = ASKED.match(asked)
    assert match, asked
    threshold = others.get(match["model"]) if match["model"] else float(match["number"])
    if value is None or threshold is None:
        return False
    threshold /= 100 if match["percent"] else 1
    # counts divided by counts: 0.95 must meet 0.95 whatever the last bit says
    slack = 1e-9
    if match["sign"] in (">=", "≥"):
        return value >= threshold - slack
    if match["sign"] in ("<=", "≤"):
        return value <= threshold + slack
    return value > threshold if match["sign"] == ">" else value < threshold


def judge(claims: Sequence[Claim], results: Sequence[Mapping[str, Any]], stages: Sequence[StageFacts]) -> list[Verdict]:
    """The verdict on every claim of which anything was measured.

    A model that was evaluated, and of which a claim asks something that has no result, gets a cell without a value
    that is not met: a missing measurement must not look like a success.
    """
    verdicts: list[Verdict] = []
    for claim in claims:
        verdicts += _by_model(claim, results) if claim.task is not None else _by_stage(claim, stages)
    return verdicts


def _by_model(claim: Claim, results: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    models = list(dict.fromkeys(str(row.get("model")) for row in results))
    if all(row.get("task") != claim.task for row in results):
        return []
    rows = {
        str(row.get("model")): row
        for row in results
        if row.get("task") == claim.task and row.get("metric") == claim.metric
    }
    values = {model: finite(row.get("value")) for model, row in rows.items()}
    cells = {}
    for model in models:
        asked = claim.asked.get(model, claim.asked.get("*", ""))
        if model in rows or asked:
            cells[model] = _cell(rows.get(model, {}), asked, values)
    return [Verdict(claim.claim, claim.measure, claim.task, None, claim.metric, cells, claim.part)] if cells else []


def _by_stage(claim: Claim, stages: Sequence[StageFacts]) -> list[Verdict]:
    asked = claim.asked.get("*", "")
    by_metric: dict[str, dict[str, Cell]] = {}
    for stage in stages:
        if stage.stage == claim.stage:
            for metric, value in stage.metrics.items():
                if fnmatchcase(metric, claim.metric):
                    by_metric.setdefault(metric, {})[stage.name] = _cell({"value": value}, asked)
    return [
        Verdict(
            claim.claim,
            claim.measure if len(by_metric) == 1 else f"{claim.measure}: {metric}",
            None,
            claim.stage,
            metric,
            cells,
            claim.part,
        )
        for metric, cells in by_metric.items()
    ]


def _cell(row: Mapping[str, Any], asked: str, others: Mapping[str, float | None] = MappingProxyType({})) -> Cell:
    value, n = finite(row.get("value")), finite(row.get("n"))
    met = meets(value, asked, others) if asked else None
    low, high = finite(row.get("ci_low")), finite(row.get("ci_high"))
    return Cell(value, None if n is None else int(n), low, high, asked, met)
