"""What the run's reports claim of one stage: read from `report.json`, so that nothing is judged a second time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.evaluation.report.judge import Verdict
from tutelage.evaluation.report.parts import verdicts_of
from tutelage.evaluation.report.view import claim_parts
from tutelage.run.artifacts import ArtifactType
from tutelage.web.surveyed import Surveyed

REPORT = "report.json"


def claims_of(run: Surveyed, stage: str) -> list[dict[str, Any]]:
    """`{report, asked, met, parts}` of every report that says something of the stage; of a report itself, all of it."""
    found = []
    for name in run.graph.order:
        if ArtifactType.REPORT not in run.graph.outputs(name).values():
            continue
        verdicts = _verdicts(run.folder / name / REPORT)
        labels = _labels(run, stage)
        own = verdicts if name == stage else [kept for one in verdicts if (kept := _about(one, stage, labels))]
        if own:
            shown = list(dict.fromkeys(label for one in own if one.task is not None for label in one.cells))
            found.append({"report": name, **claim_parts(own, shown)})
    return found


def _verdicts(path: Path) -> list[Verdict]:
    try:
        return verdicts_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return []  # not written yet, or of another version


def _labels(run: Surveyed, stage: str) -> set[str]:
    """Under which names the stage's model was evaluated."""
    fields = (edge.field.split(".") for edge in run.used_by(stage))
    return {parts[1] for parts in fields if parts[0] == "models" and len(parts) == 2}


def _about(verdict: Verdict, stage: str, labels: set[str]) -> Verdict | None:
    names = labels if verdict.task is not None else {stage}
    cells = {label: cell for label, cell in verdict.cells.items() if label in names}
    return replace(verdict, cells=cells) if cells else None
