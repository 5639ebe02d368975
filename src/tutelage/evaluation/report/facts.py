"""What the manifests and journals of a run say about its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tutelage.evaluation.report.before_after import read_samples
from tutelage.evaluation.report.describe import what_is_in
from tutelage.evaluation.report.text import as_float, finite
from tutelage.run.journal import read_journal
from tutelage.run.manifest import JOURNAL, read_manifest


@dataclass(frozen=True)
class InputFact:
    """One input of a stage: the field that names it, the artifact (`stage` or `stage.output`), its fingerprint."""

    field: str
    artifact: str
    fingerprint: str

    @property
    def stage(self) -> str:
        """The stage that made the artifact."""
        return self.artifact.split(".", 1)[0]


@dataclass(frozen=True)
class StageFacts:
    """One finished stage. `metrics` may hold NaN; `contents` says in words what its artifacts hold."""

    name: str
    stage: str
    folder: Path
    seed: int
    inputs: Sequence[InputFact]
    fingerprint: str
    metrics: Mapping[str, float]
    outputs: Sequence[Mapping[str, Any]]  # path, bytes, sha256
    seconds: float
    versions: Mapping[str, Any]
    hardware: Mapping[str, Any]
    notes: Sequence[str]
    journal: Sequence[Mapping[str, Any]]
    contents: Sequence[str]
    samples: Sequence[Mapping[str, Any]] = ()  # replies while it was trained
    config: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1
    peak_memory: int | None = None  # bytes

    def series(self, metric: str) -> list[tuple[float, float]]:
        """`(step, value)` for every journal row that has the metric; values may be NaN or infinite."""
        rows = ((finite(row.get("step")), as_float(row.get(metric))) for row in self.journal)
        return [(step, value) for step, value in rows if step is not None and value is not None]


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder tells it; `stages` in an order in which inputs come first."""

    folder: Path
    recipe: Mapping[str, Any]
    stages: Sequence[StageFacts]

    def of_kind(self, *kinds: str) -> list[StageFacts]:
        """The stages of these kinds, in order."""
        return [stage for stage in self.stages if stage.stage in kinds]


def gather(folder: Path, wanted: Sequence[str]) -> RunFacts:
    """Read the stages that made the artifacts `wanted`, and all their ancestors, from a run folder.

    A manifest that is missing or damaged is an ArtifactError.
    """
    found: dict[str, StageFacts] = {}
    _visit(folder, [name.split(".", 1)[0] for name in wanted], found)
    recipe_file = folder / "recipe.yaml"
    recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8")) if recipe_file.exists() else {}
    return RunFacts(folder, recipe if isinstance(recipe, dict) else {}, list(found.values()))


def _visit(folder: Path, names: Sequence[str], found: dict[str, StageFacts]) -> None:
    for name in names:
        if name not in found:
            facts = read_stage(folder / name)
            _visit(folder, [given.stage for given in facts.inputs], found)
            found[name] = facts


def read_stage(folder: Path) -> StageFacts:
    """One stage's manifest and journal."""
    manifest = read_manifest(folder)
    metrics = {name: as_float(value) for name, value in manifest.metrics.items()}
    return StageFacts(
        name=manifest.name,
        stage=manifest.stage,
        folder=folder,
        seed=manifest.seed,
        inputs=[InputFact(field, given.artifact, given.fingerprint) for field, given in manifest.inputs.items()],
        fingerprint=manifest.fingerprint,
        metrics={name: value for name, value in metrics.items() if value is not None},
        outputs=[output.model_dump() for output in manifest.outputs],
        seconds=manifest.seconds,
        versions=manifest.versions,
        hardware={**manifest.hardware, "threads": manifest.threads},
        notes=manifest.notes,
        journal=read_journal(folder / JOURNAL) if (folder / JOURNAL).exists() else [],
        contents=what_is_in(folder),
        samples=read_samples(folder),
        config=manifest.config,
        attempts=manifest.attempts,
        peak_memory=manifest.peak_memory,
    )


def unfinished(name: str, inputs: Sequence[InputFact]) -> StageFacts:
    """The report's own stage, which has no manifest yet while the report is written."""
    return StageFacts(name, "report", Path(), 0, inputs, "", {}, [], 0.0, {}, {}, [], [], ["this page"])
