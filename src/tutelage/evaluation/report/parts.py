"""The claims of other reports, so that a report of the whole need not repeat them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from tutelage.evaluation.report.judge import Cell, Verdict


def verdicts_of(report: Mapping[str, Any]) -> list[Verdict]:
    """What `report.json` says of its claims, under the report's title where it has several parts or none.

    Raises KeyError or TypeError where it is no report.
    """
    names = {claim["part"] for claim in report["claims"]}
    part = str(report["title"]) if len(names) != 1 or names == {""} else next(iter(names))
    return [_verdict(claim, part) for claim in report["claims"]]


def _verdict(claim: Mapping[str, Any], part: str) -> Verdict:
    cells = {label: Cell(**cell) for label, cell in claim["cells"].items()}
    own = {field.name: claim[field.name] for field in fields(Verdict)}
    return Verdict(**{**own, "cells": cells, "part": part})
