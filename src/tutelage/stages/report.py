"""Stage `report`: the whole run on one page, and the same as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import ArtifactError
from tutelage.evaluation.report.claims import DEFAULT_CLAIMS
from tutelage.evaluation.report.facts import InputFact, gather
from tutelage.evaluation.report.judge import Verdict, judge
from tutelage.evaluation.report.page import Report, as_json, render
from tutelage.evaluation.report.parts import verdicts_of
from tutelage.evaluation.report.text import clean
from tutelage.run.artifacts import Artifact
from tutelage.run.stage import Inputs, StageRun
from tutelage.stages.configs import ReportConfig


def run(config: ReportConfig, inputs: Inputs, run: StageRun) -> None:
    """Write `report.html` and `report.json` about everything that led to the inputs."""
    facts = gather(run.directory.parent, [artifact.name for artifact in inputs.values()])
    tables = [artifact for field, artifact in inputs.items() if field.split(".")[0] == "results"]
    results = _rows(tables, "results.json")
    claims = DEFAULT_CLAIMS if config.claims is None else config.claims
    parts = [artifact for field, artifact in inputs.items() if field.split(".")[0] == "reports"]
    verdicts = [*judge(claims, results, facts.stages), *(verdict for part in parts for verdict in _verdicts(part))]
    title = config.title or str(facts.recipe.get("name") or run.directory.parent.name)
    given = [InputFact(field, artifact.name, artifact.fingerprint) for field, artifact in inputs.items()]
    report = Report(title, facts, results, _rows(tables, "samples.json"), verdicts, run.name, given)
    (run.directory / "report.html").write_text(render(report), encoding="utf-8")
    text = json.dumps(as_json(report), indent=1, ensure_ascii=False, allow_nan=False)
    (run.directory / "report.json").write_text(text + "\n", encoding="utf-8")
    asked = [verdict for verdict in verdicts if verdict.met is not None]
    run.metrics["claims/asked"] = len(asked)
    run.metrics["claims/met"] = sum(verdict.met is True for verdict in asked)
    run.notes += [clean(f"not met: {v.claim} ({v.measure})") for v in asked if not v.met]


def _verdicts(report: Artifact) -> list[Verdict]:
    try:
        return verdicts_of(_json(report, "report.json"))
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{report.path / 'report.json'}: not a report of this version", hint=f"--from {report.name}"
        ) from error


def _rows(tables: Iterable[Artifact], file: str) -> Sequence[Mapping[str, Any]]:
    return [row for artifact in tables for row in _read(artifact, file)]


def _read(artifact: Artifact, file: str) -> list[Mapping[str, Any]]:
    rows = _json(artifact, file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ArtifactError(
            f"{artifact.path / file}: expected a list of objects", hint="see docs/architecture.md, Results"
        )
    return rows


def _json(artifact: Artifact, file: str) -> Any:
    path: Path = artifact.path / file
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        stage = artifact.name.split(".")[0]
        raise ArtifactError(f"{path}: cannot be read: {error}", hint=f"run {stage} again: --from {stage}") from error
