"""Where an artifact came from: artifact ← stage ← inputs …, read from manifests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.errors import ArtifactError
from tutelage.run.files import short
from tutelage.run.folder import RECIPE_FILE, RUN_FILE
from tutelage.run.manifest import MANIFEST, Manifest, read_manifest
from tutelage.run.metrics import headline


@dataclass(frozen=True)
class Node:
    """An artifact, the stage that made it, and what that was made from (by field)."""

    name: str
    type: str
    fingerprint: str
    manifest: Manifest
    inputs: dict[str, Node] = field(default_factory=dict)
    replaced: str = ""  # the fingerprint that the dependant was made from, when the artifact has changed since

    def to_json(self) -> dict[str, Any]:
        """The tree as plain data."""
        made = self.manifest
        return {
            "artifact": self.name,
            "type": self.type,
            "fingerprint": self.fingerprint,
            "replaced": self.replaced or None,
            "stage": made.stage,
            "seed": made.seed,
            "metrics": made.metrics,
            "data": made.data,
            "versions": made.versions,
            "inputs": {name: node.to_json() for name, node in self.inputs.items()},
        }


def lineage(place: Path) -> list[Node]:
    """The trees of a run's last artifacts, or of one artifact inside a run. Raises ArtifactError."""
    if (place / RUN_FILE).exists():
        manifests = published(place)
        if not manifests:
            raise ArtifactError(f"{place}: no stage has been published yet", hint="run the recipe first")
        used = {source.artifact for made in manifests.values() for source in made.inputs.values()}
        stages_used = {name.partition(".")[0] for name in used}
        return [
            _node(place, made, output)
            for made in manifests.values()
            for output in made.artifacts
            if made.name not in stages_used
        ]
    for stage in (place, place.parent):
        if (stage / MANIFEST).exists() and (stage.resolve().parent / RUN_FILE).exists():
            made = read_manifest(stage)
            output = "" if stage == place else place.name
            outputs = [output] if output in made.artifacts else list(made.artifacts)
            return [_node(stage.resolve().parent, made, output) for output in outputs]
    raise ArtifactError(
        f"{place} is neither a run folder ({RUN_FILE}) nor an artifact inside one ({MANIFEST})",
        hint="give runs/NAME or runs/NAME/STAGE",
    )


def published(run: Path) -> dict[str, Manifest]:
    """Manifests of a run's published stages by name, in the order in which they finished."""
    folders = [path.parent for path in sorted(run.glob(f"*/{MANIFEST}")) if "." not in path.parent.name]
    found = {folder.name: read_manifest(folder) for folder in folders}
    return dict(sorted(found.items(), key=lambda item: item[1].finished))


def _node(run: Path, made: Manifest, output: str, wanted: str = "") -> Node:
    record = made.artifacts[output]
    inputs = {}
    for name, source in made.inputs.items():
        stage, _, part = source.artifact.partition(".")
        try:
            producer = read_manifest(run / stage)
        except ArtifactError as error:
            raise ArtifactError(f"the lineage of {made.name} is broken: {error.message}", hint=error.hint) from error
        if part not in producer.artifacts:
            raise ArtifactError(
                f"the lineage of {made.name} is broken: {stage} no longer gives {source.artifact}",
                hint=f"run the recipe again ({run / RECIPE_FILE})",
            )
        inputs[name] = _node(run, producer, part, source.fingerprint)
    replaced = wanted if wanted and wanted != record.fingerprint else ""
    name = f"{made.name}.{output}" if output else made.name
    return Node(name, record.type, record.fingerprint, made, inputs, replaced)


def draw(nodes: list[Node]) -> Iterator[str]:
    """The trees as lines of text; what was drawn once is not drawn again below another branch."""
    drawn: set[str] = set()
    for node in nodes:
        yield from _draw(node, "", "", "", drawn)


def _draw(node: Node, label: str, head: str, tail: str, drawn: set[str]) -> Iterator[str]:
    made = node.manifest
    again = node.name in drawn and bool(node.inputs)
    parts = [f"{node.name}  {node.type}  {short(node.fingerprint)}  ← {made.stage} (seed {made.seed})"]
    if not again:
        parts += headline(made.metrics, 2)
    if node.replaced:
        parts.append(f"[was {short(node.replaced)} when it was used: made again since]")
    yield f"{head}{label}{'  '.join(parts)}" + ("  (as above)" if again else "")
    drawn.add(node.name)
    if again:
        return
    for index, (name, below) in enumerate(node.inputs.items()):
        last = index == len(node.inputs) - 1
        label = "" if name == below.name else f"{name}: "
        yield from _draw(below, label, f"{tail}{'└─ ' if last else '├─ '}", f"{tail}{'   ' if last else '│  '}", drawn)
    for index, (name, fingerprint) in enumerate(made.data.items()):
        last = index == len(made.data) - 1 and not node.inputs
        yield f"{tail}{'└─ ' if last else '├─ '}data {name}  {short(fingerprint)}"
